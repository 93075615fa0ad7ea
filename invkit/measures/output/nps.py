"""Noise power spectra of the noise of an image and of what a denoiser leaves of it."""

__all__ = ["BANDS", "NoiseSpectrum", "band_middles", "noise_spectrum"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invkit.statistics.intervals import Interval, bootstrap, resampling_weights

BANDS = 20  # up to 0.5 cycles per pixel
RESAMPLES = 1000


@dataclass(frozen=True)
class NoiseSpectrum:
    """Radial noise power spectrum, an average over places.

    Args:
        power: in `BANDS` bands of equal width up to 0.5 cycles per pixel, HU^2 pixel^2.
        total: root of the variance, HU.
        peak: frequency of the band with most power, cycles per pixel.
        mean: mean frequency, weighted by the radial spectrum, cycles per pixel.
    """

    power: Sequence[float]
    total: Interval
    peak: float
    mean: Interval

    def figures(self) -> Mapping[str, Any]:
        """Return the figures by their keys."""
        return {
            "hu": self.total,
            "peak_per_px": self.peak,
            "mean_per_px": self.mean,
            "power": list(self.power),
        }


def band_middles() -> np.ndarray:
    """Return the middle of each band, cycles per pixel."""
    middles: np.ndarray = (np.arange(BANDS) + 0.5) * 0.5 / BANDS
    return middles


def noise_spectrum(noise: Sequence[Tensor], *, seed: int) -> NoiseSpectrum:
    """Return the spectrum of noise about its mean over scans: that of an ensemble needs no window and no detrending.

    Each place counts alike; intervals are over places.

    Args:
        noise: of each image, `(N, P, h, w)` for N scans at P places, HU; the mean over scans may be anything.
        seed: of the intervals.
    """
    spectra, variances = [], []
    for scans in noise:
        count = len(scans)
        off = scans.double() - scans.double().mean(0)
        power = torch.fft.fft2(off).abs().square().sum(0) / (count - 1) / off[0, 0].numel()
        spectra.append(_radial(power.numpy()))
        variances.append((off.square().sum(0) / (count - 1)).flatten(1).mean(1))
    radial = np.concatenate(spectra)
    middles = band_middles()
    power = radial.mean(0)
    total = bootstrap(torch.cat(variances), seed=seed).root()
    weight = radial.sum(1)
    return NoiseSpectrum(
        power.tolist(),
        total,
        _peak(middles, power),
        _ratio(radial @ middles, weight, seed),
    )


def _radial(power: np.ndarray) -> np.ndarray:
    """Return means over bands, `(P, BANDS)`, of powers `(P, h, w)`."""
    rows, columns = power.shape[1:]
    radius = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(columns)[None, :])
    band = np.minimum((radius / 0.5 * BANDS).astype(int), BANDS).ravel()
    count = np.bincount(band, minlength=BANDS + 1)[:BANDS]
    sums = np.stack([np.bincount(band, one.ravel(), minlength=BANDS + 1)[:BANDS] for one in power])
    middles, filled = band_middles(), count > 0
    means = sums[:, filled] / count[filled]
    # A small image has bands without any frequency.
    found: np.ndarray = np.stack([np.interp(middles, middles[filled], one) for one in means])
    return found


def _peak(middles: np.ndarray, power: np.ndarray) -> float:
    """Return the vertex of the parabola through the highest band and its neighbours."""
    top = int(power.argmax())
    if top in (0, len(power) - 1):
        return float(middles[top])
    left, middle, right = power[top - 1 : top + 2]
    return float(
        middles[top] + 0.5 * (left - right) / (left - 2 * middle + right) * (middles[1] - middles[0])
    )


def _ratio(above: np.ndarray, below: np.ndarray, seed: int) -> Interval:
    """Return a ratio of sums over places with its bootstrap interval."""
    if below.sum() <= 0:
        return Interval(float("nan"))
    value = float(above.sum() / below.sum())
    weights = resampling_weights(len(above), None, seed=seed, draws=RESAMPLES)
    if weights is None:
        return Interval(value)
    low, high = np.quantile((weights @ above) / np.maximum(weights @ below, 1e-300), [0.025, 0.975])
    return Interval(value, float(low), float(high))
