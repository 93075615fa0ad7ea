"""Named tolerances, each measured for the layer and the image at hand."""

__all__ = ["DISPLAY", "GREY_LEVEL", "HEADLINE", "MARKS", "Marks", "marks_of"]

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from invkit.fiber.distance import Activation, parts_of
from invkit.split.split import Split
from invkit.tolerance.windows import Windows
from invkit.training.precision import in_float64

DISPLAY = 400.0, 256  # HU of a soft-tissue window, and grey levels of a display
GREY_LEVEL = DISPLAY[0] / DISPLAY[1]  # HU, 1.56
HEADLINE = "grey_level"
MARKS = (
    "float32",
    "bfloat16",
    "int8",
    "grey_level",
    "tenth_of_repeat",
    "repeat",
)  # in the order they are shown
DRAWS = 8
STEPS = 12  # of a search, at most
WITHIN = 0.01  # of what is sought


@dataclass(frozen=True)
class Marks:
    """Tolerances by name, in units of S, and what the headline's is at the output.

    Args:
        values: one for each of `MARKS`, but `grey_level` where no noise changes f(x) as much.
        hu_at_output: root mean square change of f(x) by dose noise at the headline's tolerance, HU.
        at: name of the headline's mark.
    """

    values: dict[str, float]
    hu_at_output: float
    at: str

    @property
    def tolerance(self) -> float:
        """The headline's, in units of S."""
        return self.values[self.at]


@torch.no_grad()
def marks_of(split: Split, x: Tensor, f_x: Tensor, noise: Callable[[int], Tensor], windows: Windows) -> Marks:
    """Return the marks of a layer at an image.

    Args:
        split: the layer.
        x: the image, `(1, 1, H, W)`, HU.
        f_x: f(x), likewise.
        noise: gives noise of the image's dose, `(n, 1, H, W)`, HU.
        windows: of the layer, with S.
    """
    z = split.phi(x)
    values = {
        "float32": float(windows.largest(_constant(windows, windows.unit.rounding))[0]),
        "bfloat16": float(windows.distance(_each(z, lambda part: part.bfloat16().to(part)), z)[0]),
        "int8": float(windows.distance(_each(z, _eight_bits), z)[0]),
        "tenth_of_repeat": 0.1,
        "repeat": 1.0,
    }
    draws = noise(DRAWS)

    def moved(scale: float) -> tuple[float, float]:
        """Return how far scaled noise moves z, in units of S, and f(x), HU; the root mean square over draws."""
        distances, changes = [], []
        for one in draws.split(2):
            there, f_there = split.phi_and_f(x + scale * one)
            distances.append(windows.distance(there, z))
            changes.append(in_float64((f_there - f_x).flatten(1)).square().mean(1))
        return float(torch.cat(distances).square().mean().sqrt()), float(torch.cat(changes).mean().sqrt())

    # Noise of the whole dose moves f(x) most; a network may be anything, so the scale is sought and not computed.
    if moved(1.0)[1] > GREY_LEVEL:
        values["grey_level"] = moved(_scale_for(lambda scale: moved(scale)[1], GREY_LEVEL))[0]
    # Beyond a repeat scan it says that noise moves z at x otherwise than at f(x), as behind a threshold: no tolerance to work with.
    if values.get("grey_level", math.inf) <= values["repeat"]:
        at, change = HEADLINE, GREY_LEVEL
    else:
        at = "tenth_of_repeat"
        change = moved(_scale_for(lambda scale: moved(scale)[0], values[at]))[1]
    ordered = {name: values[name] for name in MARKS if name in values}
    return Marks(ordered, change, at)


def _scale_for(effect: Callable[[float], float], wanted: float) -> float:
    """Return the scale between 0 and 1 at which an effect that grows with it, nearly in proportion, is as wanted."""
    low, high = 0.0, 1.0
    scale = 1.0
    for _ in range(STEPS):
        found = effect(scale)
        if abs(found - wanted) <= WITHIN * wanted:
            break
        low, high = (low, scale) if found > wanted else (scale, high)
        guess = scale * wanted / found if found > 0 else high
        scale = guess if low < guess < high else (low + high) / 2
    return scale


def _each(z: Activation, change: Callable[[Tensor], Tensor]) -> Activation:
    return tuple(change(part) for part in parts_of(z))


def _constant(windows: Windows, values: tuple[float, ...]) -> tuple[Tensor, ...]:
    return tuple(torch.full_like(s, value) / s for s, value in zip(windows.unit.s, values, strict=True))


def _eight_bits(part: Tensor) -> Tensor:
    """Return z as 8 bits hold it: 255 levels about 0, one scale for each channel."""
    dims = tuple(range(2, part.dim()))
    scale = (part.abs().amax(dims, keepdim=True) if dims else part.abs()) / 127
    return torch.where(scale > 0, (part / scale.clamp(min=1e-30)).round() * scale, part)
