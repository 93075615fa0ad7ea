"""From what a user types to a module of the network: keys, module names, elements of tuples and dicts."""

__all__ = ["ResolvedLayer", "module_names", "named_module", "resolve"]

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from invkit.denoisers.spec import CONTROLS, Layer
from invkit.errors import SplitError

SHOWN = 40
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
        module: name of the module in the network.
        element: which element of its output, where that is a tuple (a number) or a dict (a key).
    """

    text: str
    module: str
    element: int | str | None = None

    @property
    def name(self) -> str:
        """The place in one form that does not depend on a plugin's keys, e.g. `"net.4"` or `"lstm:0"`."""
        if self.element is None:
            return self.module
        return f"{self.module}{':' if isinstance(self.element, int) else '.'}{self.element}"


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

    Each string is looked up as a plugin's key, then as a module's name, then as `NAME:INDEX` or `NAME.KEY`,
    an element of the output of a key or module. `module:NAME` skips the keys.

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
    found = tuple(_resolve_one(names, keys, text, owner) for text in texts)
    for index, layer in enumerate(found):
        for other in found[:index]:
            overlap = layer.element == other.element or None in (layer.element, other.element)
            if names[layer.module] is names[other.module] and overlap:
                raise SplitError(
                    f"layers {other.text!r} and {layer.text!r} of {owner} are the same place: name it only once"
                )
    return found


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
        raise SplitError(
            f"{owner} has no layer {text!r}. {_existing(names, keys, text.removeprefix('module:'))}"
        )
    layer = ResolvedLayer(text, *place)
    _require_runnable(names, layer, owner)
    return layer


def _place(
    names: Mapping[str, nn.Module], text: str, targets: Mapping[str, str] | None = None
) -> tuple[str, int | str | None] | None:
    """Return the module's name and the element that `text` means, or None; an exact name wins."""
    if text in names:
        return text, None
    heads = {**{name: name for name in names}, **(targets or {})}
    element: int | str
    numbered = re.fullmatch(r"(.+):(-?\d+)", text)
    if numbered:
        head, element = numbered[1], int(numbered[2])
        return _element_of(names, heads, head, element)
    for dot in reversed([index for index, letter in enumerate(text) if letter == "."]):
        head, element = text[:dot], text[dot + 1 :]
        if element and not element.isdigit():
            place = _element_of(names, heads, head, element)
            if place is not None:
                return place
    return None


def _element_of(
    names: Mapping[str, nn.Module], heads: Mapping[str, str], head: str, element: int | str
) -> tuple[str, int | str] | None:
    module = names.get(heads.get(head, ""))
    if module is None or isinstance(module, CONTAINERS) or _gives_one_tensor(module):
        return None
    return heads[head], element


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
