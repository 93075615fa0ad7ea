"""Image-domain dose reduction: estimate the noise of a slice, and add what a lower dose would add."""

__all__ = ["estimate_noise", "noise_texture", "simulate_low_dose"]

import math

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from invkit.data.dose.texture import noise_power, noise_texture
from invkit.errors import ImageError, UsageError

SOFT_TISSUE = (-200.0, 250.0)  # HU, after smoothing
BLOCK = 8  # pixels; small enough that most blocks of soft tissue hold no edge


def simulate_low_dose(y: Tensor, *, noise: float | Tensor, dose: float, generator: torch.Generator) -> Tensor:
    """Return y as it would look at a fraction of its dose: `y + noise * sqrt(1/dose - 1) * n`.

    Quantum noise has a variance proportional to 1/dose. A slice that already holds the variance `noise**2` of
    full dose therefore lacks `noise**2 * (1/dose - 1)`. The texture n is `noise_texture`: stationary, with a
    measured noise power spectrum. What is not modelled: electronic noise, streaks and the rise of noise
    towards the centre.

    Args:
        y: full-dose images, shape `(B, 1, H, W)`, HU.
        noise: standard deviation of the full-dose noise, HU; a number or one per image, shape `(B,)`.
        dose: fraction of the full dose, in (0, 1]; 1 changes nothing.
        generator: source of randomness, on the device of `y`.

    Raises:
        UsageError: the dose is not in (0, 1] or the noise is negative.
        ImageError: y is not of shape `(B, 1, H, W)`.
    """
    if not 0 < dose <= 1:
        raise UsageError(f"dose is a fraction in (0, 1], got {dose!r}; a quarter of the dose is 0.25")
    if y.ndim != 4 or y.shape[1] != 1:
        raise ImageError(f"images need the shape (B, 1, H, W), got {tuple(y.shape)}")
    level = torch.as_tensor(noise, dtype=y.dtype, device=y.device).reshape(-1)
    if level.numel() not in (1, y.shape[0]) or bool((level < 0).any()) or not bool(level.isfinite().all()):
        raise UsageError(
            f"noise is one standard deviation >= 0, or one per image ({y.shape[0]}), got {noise!r}"
        )
    if dose == 1:
        return y.clone()
    texture = noise_texture(y.shape[0], y.shape[-2], y.shape[-1], generator=generator).to(y)
    return y + level.reshape(-1, 1, 1, 1) * math.sqrt(1 / dose - 1) * texture


def estimate_noise(y: Tensor | np.ndarray) -> float:
    """Return the standard deviation of the noise of one slice, HU, estimated from its soft tissue.

    The slice is high-pass filtered (it minus a Gaussian blur), the residual's
    variance is taken in blocks of 8 x 8 soft-tissue pixels, and the mode of the blocks without edges is
    scaled by what the filter keeps of noise with the measured power spectrum.

    Args:
        y: one slice, shape `(H, W)` or `(1, 1, H, W)`, HU.

    Raises:
        ImageError: it is not one slice.
    """
    image = np.asarray(y.detach().cpu() if isinstance(y, Tensor) else y, dtype=np.float32)
    image = image.reshape(image.shape[-2:]) if image.size == np.prod(image.shape[-2:]) else image
    if image.ndim != 2 or min(image.shape) < 2 * BLOCK:
        raise ImageError(
            f"noise is estimated on one slice of at least 16 x 16 pixels, got shape {image.shape}"
        )
    residual = _high_pass(image)
    smooth = ndimage.uniform_filter(image, BLOCK, mode="nearest")
    rows, columns = image.shape[0] // BLOCK, image.shape[1] // BLOCK
    power = _blocks(residual**2, rows, columns).mean(axis=(1, 3))
    low = _blocks(smooth, rows, columns).min(axis=(1, 3))
    high = _blocks(smooth, rows, columns).max(axis=(1, 3))
    tissue = (low > SOFT_TISSUE[0]) & (high < SOFT_TISSUE[1])
    if tissue.sum() < 4:
        tissue = low > -900
    if tissue.sum() < 4:
        tissue = np.ones_like(tissue)
    deviations = np.sqrt(power[tissue])
    return float(_mode(deviations) / _kept())


def _blocks(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Return a view of shape `(rows, BLOCK, columns, BLOCK)` of the image's upper left part."""
    return image[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)


def _high_pass(image: np.ndarray) -> np.ndarray:
    """Return what a Gaussian blur of 1.5 pixels takes away."""
    residual: np.ndarray = image - ndimage.gaussian_filter(image, 1.5, mode="nearest")
    return residual


def _kept() -> float:
    """Return the standard deviation that `_high_pass` keeps of unit noise with the measured spectrum."""
    frequency = np.fft.fftfreq(256)
    radius = np.hypot(frequency[:, None], frequency[None, :])
    power = noise_power(radius)
    response = 1 - np.exp(-2 * (math.pi * 1.5 * radius) ** 2)
    return float(np.sqrt((power * response**2).sum() / power.sum()))


def _mode(values: np.ndarray) -> float:
    """Return the half-sample mode (Robertson and Cryer 1974); edges only ever add to the mean."""
    part = np.sort(values)
    while part.size > 8:
        half = (part.size + 1) // 2
        widths = part[half - 1 :] - part[: part.size - half + 1]
        start = int(np.argmin(widths))
        part = part[start : start + half]
    return float(part.mean())
