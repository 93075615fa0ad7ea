"""Deviation and spectrum of noise from differences of scans that show the same."""

__all__ = ["LEAST_SIDE", "MeasuredNoise", "same_anatomy"]

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import avg_pool2d

from invkit.data.dose.image import SOFT_TISSUE

LEAST_SIDE = 32  # pixels
SIDE = 64  # pixels, of the windows that spectra are measured in
FIRST = 2  # ring, below which drift and the window's leakage hide the noise
SMOOTH = (0.25, 0.5, 0.25)
ROUGH = 8.0  # pixels: deviation of the Gaussian that a first map is smoothed with
WITHIN = 0.05  # standard error of the deviation at a pixel
NARROWEST = 3.0  # pixels, of that Gaussian
FLOOR = 0.1  # of the level: what is clipped, as air is, has no noise
AIR = -900.0  # HU
BLOCK = 8  # pixels
SAME = 50.0  # HU, root mean square, by which means of blocks of one anatomy may differ


@dataclass(frozen=True)
class MeasuredNoise:
    """Noise of one slice.

    Args:
        deviation: of every pixel, `(H, W)`, HU.
        level: median of it over soft tissue, HU; over all that is no air where there is none.
        frequency: of the spectrum, cycles per pixel, growing.
        power: of noise with unit variance there, in any unit.
    """

    deviation: Tensor
    level: float
    frequency: tuple[float, ...]
    values: tuple[float, ...]

    def power(self, frequency: np.ndarray) -> np.ndarray:
        """Return the power at frequencies in cycles per pixel, in any unit; constant beyond what was measured."""
        found: np.ndarray = np.interp(frequency, self.frequency, self.values)
        return found

    @classmethod
    def of(cls, images: Tensor) -> tuple[Self, ...]:
        """Return the noise of each of K slices.

        Differences of neighbouring scans over root two hold the noise alone. Divided by their local deviation they are stationary;
        their power in windows of 64 x 64 pixels (Hann, mean removed) is averaged over windows, pairs, slices and rings of 1/64
        cycles per pixel, and smoothed over three rings. Below 0.03 cycles per pixel it is constant. The variance of a pixel is the
        mean over pairs, smoothed by a Gaussian so wide that its root is known to within 5 %.

        Args:
            images: of the slice k in the scan n, `(K, N, H, W)`, HU.
        """
        rough = [cls._map(_differences(scans), ROUGH) for scans in images]
        masks = [_seen(scans.mean(0), deviation) for scans, deviation in zip(images, rough, strict=True)]
        frequency, power = _spectrum(
            [_differences(scans) / deviation for scans, deviation in zip(images, rough, strict=True)], masks
        )
        # Pixels that are correlated count for less: their number in a Gaussian of s pixels is 4 pi s^2 / area.
        grid = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE)[None, :])
        values = np.interp(grid, frequency, power)
        area = float((values**2).mean() / values.mean() ** 2)
        width = math.sqrt(area / (8 * math.pi * WITHIN**2 * (images.shape[1] - 1)))
        found = []
        for scans, mask in zip(images, masks, strict=True):
            deviation = cls._map(_differences(scans), max(width, NARROWEST))
            tissue = mask & (scans.mean(0) > SOFT_TISSUE[0]) & (scans.mean(0) < SOFT_TISSUE[1])
            level = float(deviation[tissue if bool(tissue.any()) else mask].median())
            found.append(
                cls(
                    deviation.clamp(min=FLOOR * level),
                    level,
                    tuple(frequency.tolist()),
                    tuple(power.tolist()),
                )
            )
        return tuple(found)

    @staticmethod
    def _map(differences: Tensor, width: float) -> Tensor:
        variance = differences.double().square().mean(0).numpy()
        smooth = ndimage.gaussian_filter(variance, width, mode="nearest")
        return torch.from_numpy(np.sqrt(smooth)).float().clamp(min=1e-6)


def same_anatomy(scan: Tensor, image: Tensor) -> bool:
    """Return whether two images `(H, W)`, HU, show the same: means over blocks of 8 x 8 pixels differ by no more than 50 HU RMS."""
    if scan.shape != image.shape:
        return False
    off = avg_pool2d((scan - image)[None, None].double(), BLOCK)
    return float(off.square().mean().sqrt()) < SAME


def _differences(scans: Tensor) -> Tensor:
    """Return differences of neighbouring scans over root two, about their means, `(N - 1, H, W)`, HU."""
    off = scans.diff(dim=0) / 2**0.5
    return off - off.mean((-2, -1), keepdim=True)


def _seen(mean: Tensor, deviation: Tensor) -> Tensor:
    """Return where noise is what it was, and not clipped, as in air; everywhere, if it is so in less than a quarter."""
    smooth = torch.from_numpy(ndimage.uniform_filter(mean.numpy(), BLOCK, mode="nearest"))
    body = smooth > AIR
    mask = body & (deviation > 2 * FLOOR * (deviation[body].median() if bool(body.any()) else 0.0))
    return mask if mask.double().mean() > 0.25 else torch.ones_like(mask)


def _spectrum(stationary: list[Tensor], masks: list[Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Return frequencies, cycles per pixel, and power of differences `(N, H, W)` of unit deviation within masks `(H, W)`."""
    side = min(SIDE, *masks[0].shape)
    hann = torch.hann_window(side, periodic=False, dtype=torch.float64)
    window = hann[:, None] * hann
    for least in (0.95, 0.5, 0.0):
        total, count = torch.zeros(side, side, dtype=torch.float64), 0
        for differences, mask in zip(stationary, masks, strict=True):
            for row, column in _corners(mask, side, least):
                part = differences[:, row : row + side, column : column + side].double()
                part = part - (part * window).sum((-2, -1), keepdim=True) / window.sum()
                total += torch.fft.fft2(part * window).abs().square().sum(0)
                count += len(part)
        if count:
            break
    ring = (
        torch.hypot(*torch.meshgrid(*[torch.fft.fftfreq(side, 1 / side)] * 2, indexing="ij")).round().long()
    )
    number = torch.bincount(ring.flatten())
    power = torch.bincount(ring.flatten(), weights=total.flatten()) / number
    smooth = ndimage.convolve1d(power[FIRST:].numpy(), SMOOTH, mode="nearest")
    return np.arange(FIRST, len(power)) / side, smooth


def _corners(mask: Tensor, side: int, least: float) -> list[tuple[int, int]]:
    """Return the corners of windows, half overlapping, in which a mask is set on at least this part."""
    rows, columns = (range(0, length - side + 1, side // 2) for length in mask.shape)
    return [
        (row, column)
        for row in rows
        for column in columns
        if float(mask[row : row + side, column : column + side].double().mean()) >= least
    ]
