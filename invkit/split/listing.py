"""Where a denoiser can be split: what each layer, module and call is, and which of them together are a cut."""

__all__ = ["LayerListing", "ListedLayer", "list_layers"]

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from invkit.denoisers.loaded import LoadedDenoiser, wrap_module
from invkit.errors import DenoiserError, ResourceError, SplitError
from invkit.split.follow import Followed, Made, follow
from invkit.split.layers import parts_of_set
from invkit.split.split import Split

Kind = Literal["cut", "branch", "image", "several", "never", "no tensor", "no image", "no batch", "unusable"]
SIZES = (
    64,
    128,
)  # pixels on a side of the image that is followed; the second where a network refuses the first
IMAGES = 5  # hardly any network has as many heads, channels or windows


@dataclass(frozen=True)
class ListedLayer:
    """What is known of one layer.

    Args:
        layer: what to type.
        what: class of the module, or what function is called.
        kind: `"cut"`: all that f knows of the image passes it; `"branch"`: something goes round it; `"image"`: z is the image
            itself, padded or rescaled at most; `"several"`: it runs several times, and each run is a layer; `"never"`: it never
            runs; `"no tensor"`: it returns something else; `"no image"`: z does not depend on the image; `"no batch"`: its first
            axis does not count the images; `"unusable"`: it cannot be split here for another reason.
        shape: of z for one image; `None` where there is no z.
        runs: how often it runs in a forward pass.
        set: a smallest set of layers, this one among them, that together is a cut, ready to paste; empty where there is none
            without the image itself, or none is needed.
        key: whether the plugin has it as a layer.
    """

    layer: str
    what: str
    kind: Kind
    shape: tuple[int, ...] | None = None
    runs: int = 1
    set: str = ""
    key: bool = False

    @property
    def text(self) -> str:
        """The kind in words."""
        return {
            "image": "the image itself",
            "several": f"runs {self.runs} times",
            "never": "never runs",
            "no image": "not of the image",
            "no batch": "no row per image",
        }.get(self.kind, self.kind)


@dataclass(frozen=True)
class LayerListing:
    """All layers of a denoiser.

    Args:
        layers: the plugin's keys, then every module, run and call that has a name, in the order of the forward pass.
        size: side of the image that shapes are of, pixels.
        unfollowed: why sets could not be found and cuts were found by trying; empty where the pass could be followed.
    """

    layers: tuple[ListedLayer, ...]
    size: int
    unfollowed: str = ""

    @property
    def own(self) -> tuple[ListedLayer, ...]:
        """The plugin's own layers."""
        return tuple(one for one in self.layers if one.key)

    @property
    def others(self) -> tuple[ListedLayer, ...]:
        """Everything else that has a name."""
        return tuple(one for one in self.layers if not one.key)


def list_layers(denoiser: LoadedDenoiser | nn.Module) -> LayerListing:
    """Return where a denoiser can be split, found by following one forward pass.

    After each operation it is known which tensors that depend on the image are still needed. Where that is one, it is a cut; where
    it is several, these together are one. Where a pass cannot be followed, because numbers leave tensors in it, every module is
    tried instead, and no sets are found.

    Raises:
        DenoiserError: the network breaks its contract.
    """
    denoiser = denoiser if isinstance(denoiser, LoadedDenoiser) else wrap_module(denoiser)
    x, followed = _followed(denoiser)
    names = _Names(denoiser)
    if followed.lost:
        found = [_tried(denoiser, x, name, part, followed) for name, part in names.modules.items()]
    else:
        found = list(_listed(followed, names))
    keys = [_of_key(denoiser, x, layer.key, layer.module, names, found) for layer in denoiser.spec.layers]
    return LayerListing((*keys, *found), int(x.shape[-1]), followed.lost)


def _followed(denoiser: LoadedDenoiser) -> tuple[Tensor, Followed]:
    numbers = torch.Generator().manual_seed(0)
    for size in SIZES:
        x = 100 * torch.randn(IMAGES, 1, size, size, generator=numbers)
        try:
            return x, follow(denoiser, x)
        except DenoiserError:
            if size == SIZES[-1]:
                raise
    raise AssertionError


class _Names:
    """What to type for what was made."""

    def __init__(self, denoiser: LoadedDenoiser) -> None:
        self.modules: Mapping[str, nn.Module] = {
            ".".join(part for part in name.split(".") if part != "_orig_mod"): module
            for name, module in denoiser.network.named_modules()
            if name
        }
        self.keys = {layer.key: layer.module for layer in denoiser.spec.layers}

    def module(self, name: str) -> str:
        """Return what names a module."""
        return f"module:{name}" if name in self.keys else name

    def of(self, one: Made, runs: Mapping[str, int]) -> str:
        """Return what names a tensor."""
        if one.module:
            place = self.module(one.module) + (f"#{one.call}" if runs[one.module] > 1 else "")
        else:
            hidden = one.function in self.modules or one.function in self.keys
            place = f"{'function:' if hidden else ''}{one.function}#{one.call}"
        return place + "".join(f":{key}" if isinstance(key, int) else f".{key}" for key in one.element)


def _listed(followed: Followed, names: _Names) -> Iterator[ListedLayer]:
    """Yield modules, their runs and elements, and calls of functions, as they come; modules that never run last."""
    live = dict(followed.live())
    sets = _sets(followed, live, names)
    told: set[str] = set()
    rows: dict[str, list[Made]] = {}
    for one in followed.made:
        rows.setdefault(one.module or f"{one.function}#{one.call}", []).append(one)
    for one in followed.made:
        place = one.module or f"{one.function}#{one.call}"
        if place in told or one.inside:
            continue
        told.add(place)
        made = rows[place]
        runs = followed.runs.get(one.module, 1)
        what = type(names.modules[one.module]).__name__ if one.module else f"call of {one.function}"
        if one.module and (runs > 1 or any(each.element for each in made)):
            yield ListedLayer(
                names.module(one.module), what, "several" if runs > 1 else "no tensor", runs=runs
            )
        for each in made:
            if one.module or (each.floating and followed.of_image(each)):
                yield _row(followed, names, each, live[each.time], sets, what)
    for name, module in names.modules.items():
        if name not in told:
            runs = followed.runs.get(name, 0)
            kind: Kind = "no tensor" if runs else "never"
            yield ListedLayer(names.module(name), type(module).__name__, kind, runs=runs)


def _row(
    followed: Followed,
    names: _Names,
    one: Made,
    live: frozenset[int],
    sets: Mapping[int, str],
    what: str,
) -> ListedLayer:
    kind: Kind
    if not one.floating:
        kind = "no tensor"
    elif len(one.shape) < 2 or one.shape[0] != IMAGES:
        kind = "no batch"
    elif not followed.of_image(one):
        kind = "no image"
    elif followed.tensors[one.tensor].copy:
        kind = "image"
    else:
        kind = "cut" if live == {one.tensor} else "branch"
    row = ListedLayer(names.of(one, followed.runs), what, kind, one.shape[1:])
    return replace(row, set=sets.get(one.tensor, "")) if kind == "branch" else row


def _sets(followed: Followed, live: Mapping[int, frozenset[int]], names: _Names) -> dict[int, str]:
    """Return, for each tensor, the smallest set with it that is a cut; with the fewest functions, and the earliest of these."""
    made = {
        one.tensor: one
        for one in followed.made
        if one.floating and len(one.shape) > 1 and one.shape[0] == IMAGES
    }
    best: dict[int, tuple[int, int, int]] = {}
    for time, tensors in live.items():
        usable = len(tensors) > 1 and all(
            index in made
            and not followed.tensors[index].copy
            and not any(made[index].time < written <= time for written in followed.tensors[index].written)
            for index in tensors
        )
        if not usable:
            continue
        rank = (len(tensors), sum(not made[index].module for index in tensors), time)
        for index in tensors:
            best[index] = min(best.get(index, rank), rank)
    return {
        index: "+".join(names.of(made[each], followed.runs) for each in sorted(live[time]))
        for index, (_, _, time) in best.items()
    }


def _of_key(
    denoiser: LoadedDenoiser,
    x: Tensor,
    key: str,
    target: str,
    names: _Names,
    found: Sequence[ListedLayer],
) -> ListedLayer:
    """Return a plugin's layer: as what it stands for is listed, or tried where that is a set or is not listed."""
    known = {one.layer.removeprefix("module:"): one for one in found}
    row = known.get(target.removeprefix("module:"))
    if row is not None and len(parts_of_set(names.modules, names.keys, key)) == 1:
        return replace(row, layer=key, what=target, key=True)
    return _tried_as(denoiser, x, key, target, 1, key=True)


def _tried(
    denoiser: LoadedDenoiser, x: Tensor, name: str, module: nn.Module, followed: Followed
) -> ListedLayer:
    """Return what one module is found to be by fixing z and changing the image around it."""
    runs = followed.runs.get(name, 0)
    what = type(module).__name__
    text = f"module:{name}" if name in {layer.key for layer in denoiser.spec.layers} else name
    if runs != 1:
        return ListedLayer(text, what, "several" if runs else "never", runs=runs)
    outputs = [one for one in followed.made if one.module == name]
    if not outputs or any(one.element for one in outputs):
        return ListedLayer(text, what, "no tensor")
    return _tried_as(denoiser, x, text, what, runs)


def _tried_as(
    denoiser: LoadedDenoiser, x: Tensor, text: str, what: str, runs: int, *, key: bool = False
) -> ListedLayer:
    try:
        report = Split(denoiser, text).check(x)
    except (SplitError, DenoiserError, ResourceError):
        return ListedLayer(text, what, "unusable", runs=runs, key=key)
    shape = report.grids[0].shape if len(report.grids) == 1 else None
    return ListedLayer(text, what, "branch" if report.bypass else "cut", shape, runs, key=key)
