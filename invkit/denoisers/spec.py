"""What a plugin says about a denoiser: frozen descriptions that cost nothing to make and import no torch."""

from __future__ import annotations

__all__ = ["Affine", "Call", "Denoiser", "Layer", "Preprocessing", "Upstream", "Weights"]

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from invkit.errors import DenoiserError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from invkit.denoisers.recipe import Recipe

NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
CONTROLS = ("input", "const", "output")


@runtime_checkable
class Preprocessing(Protocol):
    """An invertible map between HU and the units a network works in."""

    def normalise(self, x: Tensor) -> Tensor:
        """Map an image in HU, shape `(B, 1, H, W)`, to network units."""

    def denormalise(self, x: Tensor) -> Tensor:
        """Map network units back to HU."""

    def describe(self) -> dict[str, Any]:
        """Return what defines the map, as JSON values; it is part of the denoiser's fingerprint."""


@dataclass(frozen=True)
class Affine:
    """The map `(x - mean) / std` between HU and network units.

    Args:
        mean: the value in HU that becomes 0.
        std: the width in HU that becomes 1; positive.
    """

    mean: float
    std: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and math.isfinite(self.std) and self.std > 0):
            raise DenoiserError(
                f"Affine needs a finite mean and a positive std, got mean={self.mean}, std={self.std}"
            )

    def normalise(self, x: Tensor) -> Tensor:
        """Return `(x - mean) / std`."""
        return (x - self.mean) / self.std

    def denormalise(self, x: Tensor) -> Tensor:
        """Return `x * std + mean`."""
        return x * self.std + self.mean

    def describe(self) -> dict[str, Any]:
        """Return `{"kind": "affine", "mean": ..., "std": ...}`."""
        return {"kind": "affine", "mean": self.mean, "std": self.std}


@dataclass(frozen=True)
class Call:
    """How a network is called where that is not `network(image)`, and where in what it returns the image is.

    Args:
        arguments: bound at every call by name, as they are, e.g. `{"sigma": 0.05}`: numbers, strings, truth values, `None`.
        tensors: bound by name as a tensor with one entry per image: a number as shape `(B,)`, a nested list of shape s as
            `(B, *s)`, e.g. `{"sigma": [[[0.05]]]}` as `(B, 1, 1, 1)`. Whole numbers become integers, others the network's type.
        maps: values, in network units, of constant channels that are appended to the image, such as a map of the noise level.
        output: where the image is in what the network returns: a key, an index or an attribute, or several from outside to inside,
            e.g. `"sample"`, `0` or `("out", 0)`; nothing where it is what is returned.
        noise: the network returns the noise, which is subtracted from its input.
        slices: how many neighbouring slices the network takes as channels, an odd number; the middle one is denoised. An image
            alone stands in place of its neighbours, too.
    """

    arguments: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Any] = field(default_factory=dict)
    maps: tuple[float, ...] = ()
    output: str | int | tuple[str | int, ...] = ()
    noise: bool = False
    slices: int = 1

    def __post_init__(self) -> None:
        for name in ("arguments", "tensors"):
            given = getattr(self, name)
            if not isinstance(given, Mapping) or not all(
                isinstance(key, str) and key.isidentifier() for key in given
            ):
                raise DenoiserError(
                    f"Call: {name} must be a dict from names of the network's arguments, got {given!r:.100}"
                )
            object.__setattr__(self, name, MappingProxyType(dict(given)))
        twice = sorted(self.arguments.keys() & self.tensors.keys())
        if twice:
            raise DenoiserError(f"Call: {twice[0]!r} stands in both arguments and tensors")
        odd = [key for key, value in self.arguments.items() if not isinstance(value, Plain)]
        if odd or not all(map(_is_numbers, self.tensors.values())):
            raise DenoiserError(
                "Call: arguments are numbers, strings, truth values or None, and tensors are numbers or nested lists of them, so "
                f"that they can stand in a report; got {dict(self.arguments)!r:.100} and {dict(self.tensors)!r:.100}"
            )
        path = self.output if isinstance(self.output, tuple | list) else (self.output,)
        if not all(isinstance(key, str | int) for key in path):
            raise DenoiserError(
                f"Call: output is a key, an index or a tuple of them, got {self.output!r:.100}"
            )
        object.__setattr__(self, "output", tuple(path))
        object.__setattr__(self, "maps", tuple(float(value) for value in self.maps))
        if isinstance(self.slices, bool) or self.slices < 1 or self.slices % 2 == 0:
            raise DenoiserError(
                f"Call: slices must be an odd number, so that there is a middle one, got {self.slices}"
            )

    def describe(self) -> dict[str, Any]:
        """Return what differs from `network(image)`, as JSON values; it is part of the denoiser's fingerprint."""
        said: dict[str, Any] = {
            "arguments": dict(self.arguments),
            "tensors": dict(self.tensors),
            "maps": list(self.maps),
            "output": list(self.output) if isinstance(self.output, tuple) else self.output,
            "noise": self.noise,
            "slices": self.slices,
        }
        return {key: value for key, value in said.items() if value not in ({}, [], False, 1) or value is True}


Plain = bool | int | float | str | None


def _is_numbers(value: object) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and all(map(_is_numbers, value))
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True)
class Layer:
    """A place to cut a denoiser: a short key, the module's name, and a note.

    Args:
        key: what the user types, e.g. `"3"`.
        module: name of the module in `network.named_modules()`, whose output is z; or whatever else `invkit layers` names, such as
            `"add#2"`, or `"a+b"` for a set.
        note: one line for people, e.g. `"conv 3x3x32, before ReLU"`.
    """

    key: str
    module: str
    note: str = ""

    def __post_init__(self) -> None:
        if not all(isinstance(text, str) for text in (self.key, self.module, self.note)):
            raise DenoiserError(
                f"a layer's key, module and note are strings, got {self.key!r}, {self.module!r} and {self.note!r}"
            )
        if not self.key or self.key in CONTROLS or self.key.startswith("module:") or {",", "+"} & {*self.key}:
            raise DenoiserError(
                f"{self.key!r} cannot be a layer's key: it must not be empty, one of {', '.join(CONTROLS)}, "
                "hold a comma or a plus, or start with 'module:'"
            )


@dataclass(frozen=True)
class Weights:
    """Trained weights of a denoiser. A tag always refers to the same bytes.

    Args:
        tag: short name; `"bundled"` in `yang2018.bundled`.
        source: where they are: `package:DISTRIBUTION_MODULE/path/in/it.safetensors`, a file path, or an https URL.
        sha256: of the file's bytes, in hexadecimal.
        trained_on: what they were trained on, one line for people.
        license: terms of use.
        preprocessing: overrides the denoiser's preprocessing where these weights were trained with another.
        build: overrides the denoiser's `build` where these weights were trained in another variant of the network,
            e.g. with another padding; its tensors have the same names and shapes.
    """

    tag: str
    source: str
    sha256: str
    trained_on: str
    license: str
    preprocessing: Preprocessing | None = None
    build: Callable[[], nn.Module] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.tag):
            raise DenoiserError(f"weights tag {self.tag!r} must match {NAME.pattern}")
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise DenoiserError(
                f"weights {self.tag!r}: sha256 must be 64 hexadecimal digits, got {self.sha256!r}"
            )


@dataclass(frozen=True)
class Upstream:
    """Another project's code of the same network, whose state dicts `invkit models add` takes under their own names.

    Args:
        name: of the project; lower case letters, digits, `_`, `-`.
        modules: its names of the modules that hold weights, and ours, e.g. `{"layers.0": "conv1"}`.
        preprocessing: its map between HU and network units; `None` where it is the denoiser's.
        build: makes the network as the project has it, with our names, where it differs from the denoiser's `build`.
        note: one line for people.
    """

    name: str
    modules: Mapping[str, str]
    preprocessing: Preprocessing | None = None
    build: Callable[[], nn.Module] | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise DenoiserError(f"upstream name {self.name!r} must match {NAME.pattern}")
        if not self.modules or len(set(self.modules.values())) < len(self.modules):
            raise DenoiserError(
                f"upstream {self.name}: modules must name each of ours once, got {self.modules}"
            )
        object.__setattr__(self, "modules", MappingProxyType(dict(self.modules)))


@dataclass(frozen=True)
class Denoiser:
    """A denoiser as a plugin describes it; nothing is built or read until it is loaded.

    Args:
        name: how users call it; lower case letters, digits, `_`, `-`.
        build: makes the network, an `nn.Module` from `(B, channels, H, W)` to the same shape, in network units.
        preprocessing: the map between HU and network units.
        layers: where to cut, in the order of the forward pass: `Layer`s, or modules by their keys, as in `{"1": "conv1"}`.
        weights: trained weights; the first is the default.
        recipe: how it is trained, for `invkit train denoiser`; `None` where it cannot be trained here.
        unit: unit of its input images, always `"HU"` for now.
        channels: channels of the network's input: 1, or 3 for a network of colour images, which is given the image three times
            and whose output is the mean of its three.
        size_multiple: height and width must be multiples of this; images are padded by reflection and cropped again. `None`
            where it is not known: it is found by trying when the denoiser is loaded.
        citation: the paper.
        description: one line for people.
        upstreams: other implementations of this network, whose trained weights it can load.
        call: how the network is called, where that is not `network(image)`.
        default_layer: the layer that is analysed where none is named: one of the keys, or `"output"`.
    """

    name: str
    build: Callable[[], nn.Module]
    preprocessing: Preprocessing
    layers: tuple[Layer, ...] = ()
    weights: tuple[Weights, ...] = ()
    recipe: Recipe | None = None
    unit: str = "HU"
    channels: int = 1
    size_multiple: int | None = None
    citation: str = ""
    description: str = field(default="", kw_only=True)
    upstreams: tuple[Upstream, ...] = field(default=(), kw_only=True)
    call: Call = field(default=Call(), kw_only=True)
    default_layer: str = field(default="output", kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise DenoiserError(f"denoiser name {self.name!r} must match {NAME.pattern}")
        for listed, record in (("layers", Layer), ("weights", Weights), ("upstreams", Upstream)):
            object.__setattr__(self, listed, self._records(listed, record))
        if not callable(self.build):
            raise DenoiserError(f"denoiser {self.name}: build must be a function that returns an nn.Module")
        if hasattr(self.build, "named_modules") and not isinstance(self.build, type):
            raise DenoiserError(
                f"denoiser {self.name}: build must be a function that returns an nn.Module, got a {type(self.build).__name__} "
                "itself; write build=lambda: network"
            )
        if not isinstance(self.preprocessing, Preprocessing):
            raise DenoiserError(
                f"denoiser {self.name}: preprocessing must have normalise, denormalise and describe, as invkit.Affine has"
            )
        if self.unit != "HU" or self.channels not in (1, 3):
            raise DenoiserError(
                f"denoiser {self.name}: unit={self.unit!r}, channels={self.channels}; only 'HU' and 1 or 3 are supported"
            )
        self._check_call()
        if self.size_multiple is not None and self.size_multiple < 1:
            raise DenoiserError(
                f"denoiser {self.name}: size_multiple must be at least 1, got {self.size_multiple}"
            )
        for kind, keys in (
            ("layer key", [layer.key for layer in self.layers]),
            ("weights tag", [weights.tag for weights in self.weights]),
            ("upstream", [upstream.name for upstream in self.upstreams]),
        ):
            twice = sorted({key for key in keys if keys.count(key) > 1})
            if twice:
                raise DenoiserError(f"denoiser {self.name}: {kind} {twice[0]!r} is defined twice")

        keys = [layer.key for layer in self.layers]
        if self.default_layer not in ("output", *keys):
            raise DenoiserError(
                f"denoiser {self.name}: default_layer must be 'output' or one of its keys "
                f"({', '.join(keys) or 'it has none'}), got {self.default_layer!r}"
            )

    def _check_call(self) -> None:
        if not isinstance(self.call, Call):
            raise DenoiserError(f"denoiser {self.name}: call must be an invkit.Call, got {self.call!r:.100}")
        if self.channels > 1 and self.call.slices > 1:
            raise DenoiserError(
                f"denoiser {self.name}: a network takes {self.channels} equal channels or {self.call.slices} slices, not both"
            )
        if self.recipe is not None and (self.channels > 1 or self.call != Call()):
            raise DenoiserError(
                f"denoiser {self.name}: a recipe trains a network that is called as network(image); leave out `recipe`, or `call` "
                "and `channels`"
            )

    def _records(self, listed: str, kind: type) -> tuple[Any, ...]:
        """Return one of the fields that hold several descriptions as a tuple."""
        given = getattr(self, listed)
        if kind is Layer and isinstance(given, Mapping):
            given = [Layer(key, module) for key, module in given.items()]
        records = tuple(given) if isinstance(given, Iterable) else (None,)
        if not all(isinstance(one, kind) for one in records):
            raise DenoiserError(
                f"denoiser {self.name}: {listed} must be a list or tuple of invkit.{kind.__name__}, got {given!r:.100}"
            )
        return records
