"""Radial power spectra of images: how much energy an image has in each band of spatial frequency."""

__all__ = ["band_counts", "radial_bands"]

from functools import lru_cache

import torch
from torch import Tensor

from invkit.errors import ImageError


@lru_cache(maxsize=32)
def _membership(height: int, width: int, bands: int) -> tuple[Tensor, Tensor]:
    """Return the weights that average `rfft2` bins into bands, `(bins, bands)`, and the counts.

    A bin of the half spectrum stands for itself and its mirror image, so it counts twice except in the
    columns that are their own mirror: frequency 0, and Nyquist where the width is even.
    """
    rows = torch.fft.fftfreq(height, dtype=torch.float64)[:, None]
    columns = torch.fft.rfftfreq(width, dtype=torch.float64)[None, :]
    radius = torch.hypot(rows, columns)
    # A hair is added so that a frequency on a border belongs to the upper band whatever the rounding.
    band = (radius / 0.5 * bands + 1e-9).long().clamp_max(bands - 1)
    weight = torch.full(radius.shape, 2.0, dtype=torch.float64)
    weight[:, 0] = 1.0
    if width % 2 == 0:
        weight[:, -1] = 1.0
    weight[0, 0] = 0.0
    members = torch.zeros(radius.numel(), bands, dtype=torch.float64)
    members[torch.arange(radius.numel()), band.flatten()] = weight.flatten()
    counts = members.sum(0)
    if bool((counts == 0).any()):
        raise ImageError(
            f"{bands} radial bands are too many for images of {height} x {width}: one would be empty"
        )
    return (members / counts).float(), counts


@lru_cache(maxsize=32)
def _hann(height: int, width: int) -> Tensor:
    # Without the zeros at both ends, so that the window is symmetric and every pixel counts.
    rows, columns = (torch.hann_window(side + 2, periodic=False)[1:-1] for side in (height, width))
    window = torch.outer(rows, columns)
    return window / window.square().mean().sqrt()


def band_counts(height: int, width: int, bands: int = 10) -> Tensor:
    """Return how many coefficients each band holds, `(bands,)`, float64; together `height * width - 1`."""
    return _membership(height, width, bands)[1].clone()


def radial_bands(image: Tensor, bands: int = 10, *, window: bool = False) -> Tensor:
    """Return the mean power per radial frequency band, shape `(B, bands)`, in squared units of the image.

    The power of a coefficient is `|F|^2 / (H W)`, so white noise of variance s^2 has the power s^2 in every
    band, and (Parseval) the sum of bands times `band_counts`, over `H W`, is the variance of the image. The
    bands divide 0 to 0.5 cycles per pixel evenly; the corners beyond Nyquist belong to the last; the constant
    belongs to none.

    Args:
        image: shape `(B, 1, H, W)`.
        bands: number of bands.
        window: weight the image with a Hann window first. A patch is not periodic, and the jump between its
            opposite edges leaks into all bands: without a window, a smooth copy of a noisy patch seems to
                have half of its noise.
            The constant is removed before the window.

    Raises:
        ImageError: not of shape `(B, 1, H, W)`, or too small for so many bands.
    """
    if image.ndim != 4 or image.shape[1] != 1:
        raise ImageError(f"images need the shape (B, 1, H, W), got {tuple(image.shape)}")
    height, width = image.shape[-2:]
    members, _ = _membership(height, width, bands)
    plane = image[:, 0].float()
    if window:
        plane = (plane - plane.mean(dim=(-2, -1), keepdim=True)) * _hann(height, width).to(plane.device)
    spectrum = torch.fft.rfft2(plane)
    power = (spectrum.real.square() + spectrum.imag.square()) / (height * width)
    means: Tensor = power.flatten(1) @ members.to(plane.device)
    return means
