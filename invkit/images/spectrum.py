"""Radial power spectra of images and of differences of images, and how far two of them are apart."""

__all__ = ["Spectrum", "closer_spectrum", "power_spectrum", "spectrum_distance"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invkit.errors import InputError
from invkit.images.bands import radial_bands
from invkit.statistics.intervals import Interval, resampling_weights


@dataclass(frozen=True)
class Spectrum:
    """Mean power in radial bands.

    Args:
        frequency: centres of the bands, cycles per pixel.
        power: power density, HU^2 px^2; white noise of variance s^2 has the value s^2 in every band.
    """

    frequency: tuple[float, ...]
    power: tuple[float, ...]


def _band_power(images: Tensor, bands: int) -> NDArray[Any]:
    """Return each image's power in bands, `(n, bands)`, float64; windowed, because patches are not periodic."""
    if len(images) == 0:
        raise InputError("a spectrum needs at least one image")
    return radial_bands(images.detach(), bands, window=True).cpu().numpy().astype(np.float64)


def power_spectrum(images: Tensor | NDArray[Any], bands: int = 10) -> Spectrum:
    """Return the radial power spectrum of images or differences, averaged over them.

    Args:
        images: shape `(n, 1, H, W)`, HU.
        bands: number of radial bands up to 0.5 cycles per pixel; the corners beyond belong to the last.

    Raises:
        InputError: images of another shape, none, or too small for so many bands.
    """
    power = _band_power(torch.as_tensor(images), bands).mean(axis=0)
    centres = [(band + 0.5) / (2 * bands) for band in range(bands)]
    return Spectrum(tuple(centres), tuple(power.tolist()))


def _distances(weights: NDArray[Any], a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """Return the log-spectral distance in dB of the weighted mean spectra, one for each row of weights."""
    total = weights.sum(axis=1, keepdims=True)
    ratio = 10 * (np.log10(weights @ a / total) - np.log10(weights @ b / total))
    return np.asarray(np.sqrt((ratio**2).mean(axis=1)))


def _powers(bands: int, *sets: Tensor) -> list[NDArray[Any]]:
    if len({len(images) for images in sets}) != 1:
        raise InputError(
            f"spectra are compared in pairs: give sets of equal length, got {[len(s) for s in sets]}"
        )
    powers = [_band_power(images, bands) for images in sets]
    if any((power.mean(axis=0) <= 0).any() for power in powers):
        raise InputError(
            "a set of images has no power in some band, so its spectrum cannot be compared in dB"
        )
    return powers


def spectrum_distance(
    a: Tensor,
    b: Tensor,
    groups: Sequence[Any] | None = None,
    *,
    bands: int = 10,
    seed: int | np.random.Generator = 0,
    draws: int = 1000,
) -> Interval:
    """Return the root mean square over bands of the two mean spectra's ratio in dB, with its 95 % interval.

    Args:
        a: shape `(n, 1, H, W)`, HU; images, or noise as a difference of images.
        b: shape `(n, 1, H, W)`, HU, paired with `a`.
        groups: labels (patients), resampled as wholes.
        bands: radial bands up to 0.5 cycles per pixel.
        seed: seed of the resampling.
        draws: bootstrap samples.
    """
    first, second = _powers(bands, a, b)
    value = float(_distances(np.ones((1, len(first))), first, second)[0])
    weights = resampling_weights(len(first), groups, seed=seed, draws=draws)
    if weights is None:
        return Interval(value)
    low, high = np.quantile(_distances(weights, first, second), [0.025, 0.975])
    return Interval(value, float(low), float(high))


def closer_spectrum(
    a: Tensor,
    b: Tensor,
    reference: Tensor,
    groups: Sequence[Any] | None = None,
    *,
    bands: int = 10,
    seed: int | np.random.Generator = 0,
    draws: int = 1000,
) -> Interval:
    """Return by how many dB `a` is farther from the reference than `b` is, from one common resampling.

    An interval below 0 says that `a` has the closer spectrum. Arguments are those of `spectrum_distance`.
    """
    first, second, third = _powers(bands, a, b, reference)

    def excess(weights: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(_distances(weights, first, third) - _distances(weights, second, third))

    value = float(excess(np.ones((1, len(first))))[0])
    weights = resampling_weights(len(first), groups, seed=seed, draws=draws)
    if weights is None:
        return Interval(value)
    low, high = np.quantile(excess(weights), [0.025, 0.975])
    return Interval(value, float(low), float(high))
