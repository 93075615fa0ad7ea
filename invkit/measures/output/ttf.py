"""Task transfer function: how sharp f leaves the edge of a disc of a contrast, compared with the image's own kernel."""

__all__ = ["FREQUENCIES", "Edges", "TaskTransfer", "edge_profile", "task_transfer"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from invkit.statistics.intervals import Interval, resampling_weights

FREQUENCIES = np.arange(101) * 0.005  # cycles per pixel
BIN = 0.25  # pixels
RESAMPLES = 400

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Edges:
    """Profiles of an edge over the distance from a disc's centre, in bins of `BIN` pixels, one row for each place.

    Args:
        image: of the disc as it was put in, `(P, bins)`, HU.
        output: of the difference that it makes in f, likewise.
        radius: of the disc, pixels; profiles reach from 1 to 2 radius - 1.
        contrast: of the disc, HU.
    """

    image: Array
    output: Array
    radius: float
    contrast: float


@dataclass(frozen=True)
class TaskTransfer:
    """Task transfer at the input and the output; intervals are over places.

    Args:
        contrast: of the disc, HU.
        image: of the image as its kernel shows it, 1 at frequency 0, at `FREQUENCIES`.
        output: of f, likewise.
        figures_at: `f50` and `f10`, the frequencies at which the output's falls to 0.5 and 0.1, cycles per pixel, and `in_f50` and
            `in_f10` for the image; `None` where it does not fall so far below 0.5 cycles per pixel.
    """

    contrast: float
    image: Array
    output: Array
    figures_at: Mapping[str, Interval | None]

    def figures(self) -> Mapping[str, Any]:
        """Return the figures by their keys."""
        return {
            "contrast_hu": self.contrast,
            **{f"{name}_per_px": value for name, value in self.figures_at.items()},
            "in": self.image.tolist(),
            "out": self.output.tolist(),
        }


def edge_profile(image: Tensor, centre: Sequence[float], reach: float) -> Array:
    """Return the mean of an image `(h, w)` over rings around a centre, `(bins,)`; rings without a pixel are interpolated."""
    rows, columns = (np.arange(length) - place for length, place in zip(image.shape, centre, strict=True))
    ring = (np.hypot(rows[:, None], columns[None, :]) / BIN).astype(int).ravel()
    bins = int(reach / BIN)
    inside = ring < bins
    count = np.bincount(ring[inside], minlength=bins)
    total = np.bincount(ring[inside], image.cpu().double().numpy().ravel()[inside], minlength=bins)
    filled = np.flatnonzero(count)
    found: Array = np.interp(np.arange(bins), filled, total[filled] / count[filled])
    return found


def task_transfer(edges: Sequence[Edges], *, seed: int) -> TaskTransfer:
    """Return the transfer of discs of one radius and contrast at places of images (Richard et al. 2012; AAPM TG-233).

    The line spread is the derivative of the edge's mean profile in a tapered window as wide as the disc; its transform's modulus,
    divided by that at frequency 0, is the transfer.

    Args:
        edges: of each image.
        seed: of the intervals.
    """
    image, output = (np.concatenate([getattr(one, name) for one in edges]) for name in ("image", "output"))
    radius, places = edges[0].radius, len(image)
    weights = np.ones((1, places)) / places
    drawn = resampling_weights(places, None, seed=seed, draws=RESAMPLES)
    if drawn is not None:
        weights = np.concatenate([weights, drawn / places])
    before, after = (_transfer(weights @ profile, radius) for profile in (image, output))
    found = {}
    for prefix, curves in (("", after), ("in_", before)):
        for name, level in (("f50", 0.5), ("f10", 0.1)):
            found[prefix + name] = _interval(np.array([_falls_to(curve, level) for curve in curves]))
    return TaskTransfer(edges[0].contrast, before[0], after[0], found)


def _transfer(profiles: Array, radius: float) -> Array:
    """Return transfers `(n, frequencies)` of profiles `(n, bins)`."""
    line = -np.diff(profiles, axis=1)
    place = (np.arange(line.shape[1]) + 1) * BIN - radius
    # Flat over half of the disc's radius and more, so that a wide line keeps its width; then it falls to 0 as a cosine.
    beyond = np.clip(2 * np.abs(place) / (radius - 1) - 1, 0, 1)
    window = (1 + np.cos(np.pi * beyond)) / 2
    waves = np.exp(-2j * np.pi * place[:, None] * FREQUENCIES[None, :])
    # A ring's mean and a difference of neighbouring rings both take away what a bin does.
    spread = np.abs((line * window) @ waves) / np.sinc(BIN * FREQUENCIES) ** 2
    transfer: Array = spread / np.maximum(spread[:, :1], 1e-300)
    return transfer


def _falls_to(curve: Array, level: float) -> float:
    """Return where a curve first falls to a level; not a number where it does not."""
    below = np.flatnonzero(curve < level)
    if not len(below) or below[0] == 0:
        return float("nan")
    last = below[0] - 1
    part = (curve[last] - level) / (curve[last] - curve[last + 1])
    return float(FREQUENCIES[last] + part * (FREQUENCIES[last + 1] - FREQUENCIES[last]))


def _interval(values: Array) -> Interval | None:
    """Return the first value with the percentile interval of the others, as far as these exist."""
    if np.isnan(values[0]):
        return None
    resampled = values[1:][~np.isnan(values[1:])]
    if len(resampled) < 0.975 * RESAMPLES:
        return Interval(float(values[0]))
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Interval(float(values[0]), float(low), float(high))
