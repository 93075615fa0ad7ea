"""What hooks return besides denoisers: frozen descriptions that cost nothing to make and import no torch."""

from __future__ import annotations

__all__ = ["Artifact", "Backbone", "Metric", "Sampler", "Section", "Source"]

import importlib.util
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

from invkit.denoisers.spec import NAME
from invkit.errors import ArtifactError, PluginError

if TYPE_CHECKING:
    from torch import nn

    from invkit.data.slices import SliceSet

ArtifactKind = Literal["vae", "cinn"]
PACKAGE = "package:"


@dataclass(frozen=True)
class Source:
    """A set of CT slices to train on, for `--train-data NAME` or `--train-data NAME:REST`.

    Args:
        name: how users call it; lower case letters, digits, `_`, `-`.
        open: `open(spec, seed)` returns an `invkit.SliceSet`, as `invkit.load_slices` and `invkit.SliceSet.of` do; `spec` is the
            REST that the user typed, or empty.
        description: one line for people.
    """

    name: str
    open: Callable[[str, int], SliceSet]
    description: str = ""

    def __post_init__(self) -> None:
        check_named("source", self.name, self.open, "open")


@dataclass(frozen=True)
class Metric:
    """A figure computed from the result of an analysis.

    Args:
        name: key in `result.metrics`; lower case letters, digits, `_`, `-`.
        compute: `compute(result)` returns a finite number, or a dict of numbers; NumPy scalars and tensors of no dimension are
            numbers.
        unit: unit of the number, e.g. `"HU"`; empty where it has none.
        description: one line for people.
        citation: the paper and equation.
    """

    name: str
    compute: Callable[[Any], float | Mapping[str, float]]
    unit: str = ""
    description: str = ""
    citation: str = ""

    def __post_init__(self) -> None:
        check_named("metric", self.name, self.compute, "compute")

    def measure(self, result: Any) -> float | dict[str, float]:
        """Return what `compute` gives for a result, as Python's own numbers.

        Raises:
            PluginError: it gave anything else, or a number that is not finite.
            Exception: whatever `compute` raises.
        """
        value = self.compute(result)
        if not isinstance(value, Mapping):
            return plain_number(value, "")
        wrong = next((name for name in value if not isinstance(name, str)), None)
        if wrong is not None:
            raise PluginError(f"compute must name its numbers by texts, got {wrong!r:.60}")
        return {name: plain_number(item, f" for {name!r}") for name, item in value.items()}


@dataclass(frozen=True)
class Section:
    """A part of the HTML report.

    Args:
        name: of the section; lower case letters, digits, `_`, `-`.
        render: `render(result)` returns text, which the report escapes, or the paths of figures.
        title: heading in the report.
    """

    name: str
    render: Callable[[Any], str | Sequence[Path]]
    title: str = ""

    def __post_init__(self) -> None:
        check_named("report section", self.name, self.render, "render")


@dataclass(frozen=True)
class Sampler:
    """A source of images that a layer cannot tell apart, for `--sampler NAME`.

    Args:
        name: how users call it; lower case letters, digits, `_`, `-`.
        family: a function that makes the `invkit.samplers.Family`, or its class as `"package.module:Class"`. Neither is
            loaded before an analysis begins.
        description: one line for people.
        domains: which images it draws: `"low"`, `"high"`, or both.
        trained: whether a model is trained for each layer; it is then also trained for the controls `input` and `const`.
        proposals: what its draws are before refinement, as a noun phrase for verdicts and reports, e.g. `"f(x) plus noise"`; read
            where nothing is trained.
        posterior: whether these are draws of the posterior, which every analysis makes whatever the sampler.
        experimental: whether reports warn that it was measured for few layers only.
    """

    name: str
    family: Callable[[], Any] | str
    description: str = ""
    domains: tuple[str, ...] = ("low",)
    trained: bool = True
    proposals: str = ""
    posterior: bool = False
    experimental: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.family, str):
            if not re.fullmatch(r"[\w.]+:\w+", self.family):
                raise PluginError(
                    f"sampler {self.name}: family must be 'package.module:Class', got {self.family!r}"
                )
            check_named("sampler", self.name, str, "family")
        else:
            check_named("sampler", self.name, self.family, "family")
        if not self.domains or not set(self.domains) <= {"low", "high"}:
            raise PluginError(f"sampler {self.name}: domains are 'low' or 'high', got {self.domains!r}")
        if not self.proposals:
            object.__setattr__(self, "proposals", f"draws of the sampler {self.name}")


@dataclass(frozen=True)
class Backbone:
    """A network whose features a perceptual loss compares.

    Args:
        name: what `Perceptual(backbone=...)` says; lower case letters, digits, `_`, `-`.
        build: makes the network.
        description: one line for people.
        license: terms of its weights.
        citation: the paper.
    """

    name: str
    build: Callable[[], nn.Module]
    description: str = ""
    license: str = ""
    citation: str = ""

    def __post_init__(self) -> None:
        check_named("backbone", self.name, self.build, "build")


@dataclass(frozen=True)
class Artifact:
    """A trained VAE or cINN with its provenance, ready for an analysis that it matches.

    Args:
        kind: `"vae"` or `"cinn"`.
        path: `package:MODULE/path/in/it.safetensors`, or an absolute file path.
        sha256: of the file's bytes, in hexadecimal.
        description: one line for people.
        meta: the provenance that the file's sidecar holds, JSON values.
    """

    kind: ArtifactKind
    path: str
    sha256: str
    description: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in get_args(ArtifactKind):
            raise PluginError(f"artifact {self.path!r}: kind must be 'vae' or 'cinn', got {self.kind!r}")
        if not isinstance(self.sha256, str) or not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise PluginError(
                f"artifact {self.path!r}: sha256 must be 64 hexadecimal digits, got {self.sha256!r}"
            )
        inside = self.path.removeprefix(PACKAGE)
        packaged = inside != self.path
        parts = PurePosixPath(inside).parts
        if ".." in parts or "\0" in inside or (packaged and (inside.startswith("/") or len(parts) < 2)):
            raise PluginError(
                f"artifact {self.path!r} path must be '{PACKAGE}MODULE/path/in/it' or absolute, without '..'"
            )
        object.__setattr__(self, "meta", MappingProxyType(dict(self.meta)))

    def locate(self) -> Path:
        """Return the file's path, without reading it or importing the package it lies in.

        Raises:
            ArtifactError: the package, or the file in it, does not exist.
        """
        path = Path(self.path)
        if self.path.startswith(PACKAGE):
            module, _, inside = self.path.removeprefix(PACKAGE).partition("/")
            found = importlib.util.find_spec(module) if module.isidentifier() else None
            folders = list(found.submodule_search_locations or ()) if found is not None else []
            if not folders:
                raise ArtifactError(f"{self.path}: there is no package {module!r}. Reinstall the plugin")
            path = Path(folders[0], inside)
        if not path.is_file():
            raise ArtifactError(f"{self.path}: {path} does not exist. Reinstall the plugin")
        return path


def check_named(kind: str, name: object, function: object, what: str) -> None:
    """Refuse a record whose name users could not type, or whose function cannot be called."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise PluginError(f"{kind} name {name!r} must match {NAME.pattern}")
    if not callable(function):
        raise PluginError(f"{kind} {name}: {what} must be a function, got {type(function).__name__}")


def plain_number(value: Any, of: str) -> float:
    """Return a finite number as Python's own; a NumPy scalar or a tensor of no dimension is one.

    Raises:
        PluginError: it is none.
    """
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
        raise PluginError(
            f"compute must return a number or a dict of numbers, got a {type(value).__name__}{shape}{of}"
        )
    if not math.isfinite(value):
        raise PluginError(f"compute gave {value}{of}; it must be finite")
    return value
