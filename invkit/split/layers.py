"""From what a user types to places in the network: keys, modules, calls of modules and functions, elements, sets."""

__all__ = ["Element", "ResolvedLayer", "module_names", "named_module", "parts_of_set", "resolve"]

import dataclasses
import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from invkit.denoisers.spec import CONTROLS, Layer
from invkit.errors import SplitError

Element = tuple[int | str, ...]
SHOWN = 40
REST = re.compile(r"(?:#(\d+))?((?::-?\d+|\.[^:#]+)*)")  # of a text after a name: a call, and an element
FUNCTION = re.compile(r"(function:)?([A-Za-z_]\w*)#(\d+)((?::-?\d+|\.[^:#]+)*)")
CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
# Modules of these families return one tensor, so `name.key` after them can only be a misspelt module.
PLAIN_FAMILIES = (
    "conv",
    "linear",
    "batchnorm",
    "instancenorm",
    "normalization",
    "dropout",
    "padding",
    "upsampling",
)


@dataclass(frozen=True)
class ResolvedLayer:
    """One place in a network whose output is z.

    Attributes:
        text: what was asked for, e.g. `"3"`.
        module: name of the module in the network; empty for a function.
        element: which element of its output, where that is a tuple (a number), a dict or dataclass (a key), or several of these.
        call: which of its calls in a forward pass, the first is 1; `None` for a module that runs once.
        function: name of the torch function, where this is no module.
    """

    text: str
    module: str
    element: Element = ()
    call: int | None = None
    function: str = ""

    @property
    def place(self) -> str:
        """The module or function and its call, e.g. `"conv#2"`."""
        what = f"function:{self.function}" if self.function else self.module
        return what if self.call is None else f"{what}#{self.call}"

    @property
    def name(self) -> str:
        """The place in one form that does not depend on a plugin's keys, e.g. `"net.4"`, `"lstm:0"` or `"function:add#2"`."""
        return self.place + "".join(f":{key}" if isinstance(key, int) else f".{key}" for key in self.element)

    def overlaps(self, other: "ResolvedLayer") -> bool:
        """Whether two places of one module or function have a tensor in common."""
        first, second = sorted((self.element, other.element), key=len)
        same = self.call == other.call or None in (self.call, other.call)
        return same and second[: len(first)] == first


def module_names(network: nn.Module) -> dict[str, nn.Module]:
    """Return every module below the network under all of its names, in the order of registration.

    The `_orig_mod` that `torch.compile` puts between a module and its children is left out of the names.
    """
    names: dict[str, nn.Module] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        clean = ".".join(part for part in name.split(".") if part != "_orig_mod")
        if clean:
            names[clean] = module
    return names


def named_module(network: nn.Module, name: str) -> nn.Module:
    """Return the module of one of these names."""
    try:
        return network.get_submodule(name)
    except AttributeError:
        # A compiled module stands in between, or the name has a dot in it.
        return module_names(network)[name]


def resolve(
    network: nn.Module, keys: Sequence[Layer], texts: Sequence[str], *, owner: str
) -> tuple[ResolvedLayer, ...]:
    """Find the places that a set of layer strings names.

    Each string is looked up as a plugin's key, then as a module's name, then as a set `A+B`, then as `NAME#K`, the k-th call of a
    module or torch function (`function:NAME#K` of a function alone), and as `NAME:INDEX` or `NAME.KEY`, an element of the output of
    one of these, nested in any way. `module:NAME` skips the keys.

    Args:
        network: the network.
        keys: the plugin's own layers.
        texts: one string for each place.
        owner: the denoiser's name, for messages.

    Raises:
        SplitError: nothing has this name (the message lists what exists), a module never runs by itself, or
            two strings name the same place.
    """
    names = module_names(network)
    targets = {layer.key: layer.module for layer in keys}
    found = tuple(
        _resolve_one(names, keys, part, owner)
        for text in texts
        for part in (parts_of_set(names, targets, text) if isinstance(text, str) else [text])
    )
    for index, layer in enumerate(found):
        for other in found[:index]:
            same = layer.function == other.function and names.get(layer.module) is names.get(other.module)
            if same and layer.overlaps(other):
                raise SplitError(
                    f"layers {other.text!r} and {layer.text!r} of {owner} are the same place: name it only once"
                )
    return found


def parts_of_set(modules: Collection[str], targets: Mapping[str, str], text: str) -> list[str]:
    """Return the members of a set `A+B`, or of a key that stands for one; what has the very name is no set.

    Args:
        modules: names of modules.
        targets: what the plugin's keys stand for.
        text: as the user typed it.
    """
    target = targets.get(text, "")
    if target and "+" in target and target not in modules:
        # Members are modules and functions, whatever keys have their names.
        return [f"module:{part.strip().removeprefix('module:')}" for part in target.split("+")]
    if text in targets or text in modules or "+" not in text:
        return [text]
    return [part for member in text.split("+") for part in parts_of_set(modules, targets, member.strip())]


def _resolve_one(
    names: Mapping[str, nn.Module], keys: Sequence[Layer], text: str, owner: str
) -> ResolvedLayer:
    if not isinstance(text, str) or not text:
        raise SplitError(
            f"a layer of {owner} must be named by a string such as '3' or 'module:net.4', got {text!r}"
        )
    targets = {layer.key: layer.module for layer in keys}
    if text.startswith("module:"):
        place = _place(names, text.removeprefix("module:"))
    elif text in targets:
        place = _place(names, targets[text])
    else:
        place = _place(names, text, targets)
    if place is None:
        if text in targets:
            raise SplitError(
                f"layer {text!r} of {owner} stands for module {targets[text]!r}, which its network does not "
                f"have. {_existing(names, keys, targets[text])}"
            )
        hint = f"A set of layers is written {text.replace(',', '+')!r}. " if "," in text else ""
        raise SplitError(
            f"{owner} has no layer {text!r}. {hint}{_existing(names, keys, text.removeprefix('module:'))}"
        )
    layer = dataclasses.replace(place, text=text)
    if layer.call == 0:
        raise SplitError(f"layer {text!r} of {owner}: calls are counted from 1")
    if layer.module:
        _require_runnable(names, layer, owner)
    return layer


def _place(
    names: Mapping[str, nn.Module], text: str, targets: Mapping[str, str] | None = None
) -> ResolvedLayer | None:
    """Return what `text` means, or None; an exact name wins, then the longest name that it begins with."""
    if text in names:
        return ResolvedLayer(text, text)
    heads = {**{name: name for name in names}, **(targets or {})}
    for end in reversed([index for index, letter in enumerate(text) if letter in ".:#"]):
        module, rest = heads.get(text[:end], ""), REST.fullmatch(text[end:])
        if module not in names or rest is None or isinstance(names[module], CONTAINERS):
            continue
        element = _element(rest[2])
        if element is None or (element and _gives_one_tensor(names[module])):
            continue
        return ResolvedLayer(text, module, element, int(rest[1]) if rest[1] else None)
    function = FUNCTION.fullmatch(text)
    if function is None or (not function[1] and function[2] in heads):
        return None
    return ResolvedLayer(text, "", _element(function[4]) or (), int(function[3]), function[2])


def _element(text: str) -> Element | None:
    """Return `":1.r"` as `(1, "r")`; `None` where a key begins with a number, as a misspelt module's name does."""
    parts: Element = tuple(
        int(number) if number else key for number, key in re.findall(r":(-?\d+)|\.([^:#]+)", text)
    )
    return None if any(isinstance(part, str) and part.split(".")[0].isdigit() for part in parts) else parts


def _gives_one_tensor(module: nn.Module) -> bool:
    if isinstance(module, nn.Sequential) and len(module):
        return _gives_one_tensor(module[-1])
    family = type(module).__module__.removeprefix("torch.nn.modules.")
    return family in PLAIN_FAMILIES and not isinstance(module, nn.Identity)


def _require_runnable(names: Mapping[str, nn.Module], layer: ResolvedLayer, owner: str) -> None:
    module = names[layer.module]
    if isinstance(module, CONTAINERS):
        members = ", ".join(name for name in names if name.startswith(f"{layer.module}."))
        raise SplitError(
            f"layer {layer.text!r} of {owner} is a {type(module).__name__}, which is never called itself; "
            f"choose one of its members: {members or 'it has none'}"
        )
    parts = layer.module.split(".")
    for end in range(1, len(parts)):
        outer = names.get(".".join(parts[:end]))
        if isinstance(outer, torch.jit.ScriptModule):
            raise SplitError(
                f"layer {layer.text!r} of {owner} lies inside the TorchScript module "
                f"{'.'.join(parts[:end])!r}, which does not support hooks. Choose that module, or give the nn.Module "
                "it was made from"
            )


def _existing(names: Mapping[str, nn.Module], keys: Sequence[Layer], wanted: str) -> str:
    known = [*(layer.key for layer in keys), *CONTROLS, *names]
    close = difflib.get_close_matches(wanted, known, n=1)
    listed = [f"{layer.key} ({layer.note or layer.module})" for layer in keys]
    modules = list(names)
    more = f" and {len(modules) - SHOWN} more" if len(modules) > SHOWN else ""
    return (
        (f"Did you mean {close[0]!r}? " if close else "")
        + (f"Layers: {', '.join(listed)}. " if listed else "")
        + f"Controls: {', '.join(CONTROLS)}. Modules: {', '.join(modules[:SHOWN]) or 'none'}{more}"
    )
