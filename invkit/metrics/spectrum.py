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
from invkit.metrics.intervals import Interval, resampling_weights


@dataclass(frozen=True)
class Spectrum:
    """Mean power in radial bands.

    Args:
        frequency: centres of the bands, cycles per pixel.
        power: power density, HU^2 px^2; white noise of variance s^2 has the value s^2 in every band.
    """

    frequency: tuple[float, ...]
    power: tuple[float, ...]


def band_power(images: Tensor, bands: int = 10) -> Tensor:
    """Return each image's mean power density in `bands` rings of equal width up to 0.5 cycles per pixel.

    The image's mean is taken off, and a Hann window keeps edges that do not meet from leaking into every
    band. Corners of the spectrum beyond 0.5 cycles per pixel are left out.

    Args:
        images: shape `(n, 1, H, W)`, HU; at least two pixels a band and side.
        bands: number of rings.

    Returns:
        Shape `(n, bands)`, HU^2 px^2, float64.

    Raises:
        InputError: images of another shape, or too small for so many bands.
    """
    if images.ndim != 4 or images.shape[1] != 1 or len(images) == 0:
        raise InputError(f"a spectrum needs images of shape (n, 1, H, W), got {tuple(images.shape)}")
    height, width = images.shape[2:]
    if bands < 1 or min(height, width) < 2 * bands:
        raise InputError(
            f"{bands} bands need images of at least {2 * bands} pixels a side, got {height} x {width}"
        )
    values = images[:, 0].detach().to(torch.float64)
    values = values - values.mean((1, 2), keepdim=True)
    window = torch.outer(
        torch.hann_window(height, periodic=False, dtype=torch.float64),
        torch.hann_window(width, periodic=False, dtype=torch.float64),
    ).to(values.device)
    power = torch.fft.fft2(values * window).abs().square() / window.square().sum()
    radius = torch.hypot(
        torch.fft.fftfreq(height, dtype=torch.float64)[:, None],
        torch.fft.fftfreq(width, dtype=torch.float64)[None],
    )
    ring = (radius * (2 * bands)).floor().long().flatten().to(values.device)
    inside = ring < bands
    counts = torch.bincount(ring[inside], minlength=bands)
    sums = torch.zeros(len(images), bands, dtype=torch.float64, device=values.device)
    sums.index_add_(1, ring[inside], power.flatten(1)[:, inside])
    return sums / counts


def power_spectrum(images: Tensor, bands: int = 10) -> Spectrum:
    """Return the radial power spectrum of images or differences, averaged over them, as `band_power` does.

    Args:
        images: shape `(n, 1, H, W)`, HU.
        bands: number of radial bands up to 0.5 cycles per pixel.
    """
    power = band_power(images, bands).mean(0)
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
    powers = [band_power(images, bands).cpu().numpy() for images in sets]
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
