"""How a denoiser is trained: a frozen recipe that a plugin brings, for `invkit train denoiser`."""

from __future__ import annotations

__all__ = ["Adversarial", "Perceptual", "Recipe", "packaged_text"]

import importlib.resources
import inspect
import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from invkit.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Adversarial:
    """A Wasserstein critic with gradient penalty (Gulrajani et al. 2017, eq. 3).

    Args:
        critic: makes the critic, from `(B, 1, patch, patch)` to `(B, 1)`; called with `patch=` the side of the recipe's
            patches where it has a parameter of that name.
        weight: factor of `-C(f(x))` in the denoiser's loss.
        gradient_penalty: lambda of the penalty.
        critic_steps: critic steps for each step of the denoiser.
        lr: learning rate of the critic.
    """

    critic: Callable[..., nn.Module]
    weight: float = 1.0
    gradient_penalty: float = 10.0
    critic_steps: int = 1
    lr: float = 1e-5

    def __post_init__(self) -> None:
        if not callable(self.critic):
            raise ConfigError(f"critic must be a function that makes the critic, got {self.critic!r}")
        _require(self, whole=("critic_steps",), positive=("weight", "lr"), not_negative=("gradient_penalty",))

    def build_critic(self, patch: int) -> nn.Module:
        """Return a new critic for patches of this side."""
        sized = "patch" in inspect.signature(self.critic).parameters
        return self.critic(patch=patch) if sized else self.critic()


@dataclass(frozen=True)
class Perceptual:
    """Mean squared distance of a backbone's features of f(x) and y.

    Args:
        weight: factor in the denoiser's loss.
        backbone: name of a registered backbone, e.g. `"vgg19"`.
    """

    weight: float = 0.1
    backbone: str = "vgg19"

    def __post_init__(self) -> None:
        _require(self, positive=("weight",))
        if not isinstance(self.backbone, str):
            raise ConfigError(f"backbone must be the name of a backbone, got {self.backbone!r}")


@dataclass(frozen=True)
class Recipe:
    """Everything that determines the training of a denoiser, besides the data and the seed.

    Args:
        patch: side of the square training patches, pixels.
        batch: patches in a step.
        steps: optimiser steps.
        lr: learning rate of Adam; decays by a cosine to `lr_end` times itself.
        betas: of Adam.
        mse: factor of the mean squared error, in network units.
        mse_steps: number of initial steps with the mean squared error alone (factor 1), before the
            critic and the perceptual term are added. 0 in the published recipes.
        adversarial: a critic, or `None`.
        perceptual: a perceptual term, or `None`.
        presets: changes to these fields under a name, e.g. `{"paper": {"steps": 100_000}}`; a change to
            `adversarial` or `perceptual` is itself a mapping of that part's fields. A string in place of the
            changes names a TOML file that holds them: `package:MODULE/path/in/it.toml`.

    Raises:
        ConfigError: a field is out of range, or no loss term remains.
    """

    patch: int
    batch: int
    steps: int
    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    lr_end: float = 1.0
    mse: float = 1.0
    mse_steps: int = 0
    adversarial: Adversarial | None = None
    perceptual: Perceptual | None = None
    presets: Mapping[str, Mapping[str, Any] | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require(
            self,
            whole=("patch", "batch", "steps"),
            positive=("lr",),
            not_negative=("lr_end", "mse"),
        )
        if isinstance(self.mse_steps, bool) or not isinstance(self.mse_steps, int) or self.mse_steps < 0:
            raise ConfigError(f"mse_steps must be a whole number of at least 0, got {self.mse_steps!r}")
        betas = self.betas
        if not isinstance(betas, Sequence) or len(betas) != 2 or not all(_number(b) and b < 1 for b in betas):
            raise ConfigError(f"betas must be two numbers from 0 to below 1, got {betas!r}")
        object.__setattr__(self, "betas", (float(betas[0]), float(betas[1])))
        for name, kind in (("adversarial", Adversarial), ("perceptual", Perceptual)):
            part = getattr(self, name)
            if part is not None and not isinstance(part, kind):
                raise ConfigError(f"{name} must be {kind.__name__}(...) or None, got {part!r}")
        if not (self.mse or self.adversarial or self.perceptual or self.mse_steps >= self.steps):
            raise ConfigError("a recipe needs at least one loss term: mse, adversarial or perceptual")

    def preset(self, name: str) -> Recipe:
        """Return the recipe with a preset's changes.

        Raises:
            ConfigError: no preset has this name, or it changes a field that does not exist.
        """
        if name == "default" and name not in self.presets:
            return self
        try:
            changes = self.presets[name]
        except KeyError:
            known = ", ".join(sorted({"default", *self.presets}))
            raise ConfigError(f"no training preset {name!r}; there are: {known}") from None
        return self.changed(tomllib.loads(packaged_text(changes)) if isinstance(changes, str) else changes)

    def changed(self, changes: Mapping[str, Any]) -> Recipe:
        """Return the recipe with some fields changed; `adversarial` and `perceptual` take a mapping.

        Raises:
            ConfigError: a field does not exist or is out of range.
        """
        changes = dict(changes)
        try:
            for name, kind in (("adversarial", Adversarial), ("perceptual", Perceptual)):
                current = getattr(self, name)
                if isinstance(changes.get(name), Mapping):
                    changes[name] = replace(current, **changes[name]) if current else kind(**changes[name])
            return replace(self, **changes)
        except TypeError as error:
            raise ConfigError(f"unknown or missing field in a training recipe: {error}") from None

    def describe(self) -> dict[str, Any]:
        """Return the recipe as JSON values, for provenance; a critic is named by its module and function."""

        def plain(value: Any) -> Any:
            if callable(value):
                named = value if hasattr(value, "__qualname__") else type(value)
                return f"{named.__module__}.{named.__qualname__}"
            return list(value) if isinstance(value, tuple) else value

        described = {
            name: plain(getattr(self, name))
            for name in ("patch", "batch", "steps", "lr", "betas", "lr_end", "mse", "mse_steps")
        }
        for part in ("adversarial", "perceptual"):
            value = getattr(self, part)
            described[part] = value and {key: plain(item) for key, item in vars(value).items()}
        return described


def packaged_text(source: str) -> str:
    """Return the text of a file in an installed package, `package:MODULE/path/in/it`.

    Raises:
        ConfigError: there is no such file.
    """
    package, _, inside = source.removeprefix("package:").partition("/")
    parts = PurePosixPath(inside).parts
    if not source.startswith("package:") or not parts or ".." in parts or inside.startswith("/"):
        raise ConfigError(f"preset {source!r} is not of the form package:MODULE/path/in/it.toml")
    try:
        return importlib.resources.files(package).joinpath(*parts).read_text(encoding="utf-8")
    except (ImportError, OSError) as error:
        raise ConfigError(f"preset {source} is missing: {error}. Reinstall the plugin") from None


def _require(
    part: Any, *, whole: Sequence[str] = (), positive: Sequence[str] = (), not_negative: Sequence[str] = ()
) -> None:
    for name in whole:
        value = getattr(part, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{name} must be a whole number of at least 1, got {value!r}")
    for name in (*positive, *not_negative):
        value = getattr(part, name)
        if not _number(value) or (name in positive and value == 0):
            raise ConfigError(
                f"{name} must be a number {'above' if name in positive else 'of at least'} 0, got {value!r}"
            )


def _number(value: Any) -> bool:
    """Whether a value is a finite number of at least 0."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
