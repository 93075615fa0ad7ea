"""Radial power spectra of images and of differences of images."""

__all__ = ["Spectrum", "power_spectrum"]

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invkit.errors import InputError
from invkit.images.bands import radial_bands


@dataclass(frozen=True)
class Spectrum:
    """Mean power in radial bands.

    Args:
        frequency: centres of the bands, cycles per pixel.
        power: power density, HU^2 px^2; white noise of variance s^2 has the value s^2 in every band.
    """

    frequency: tuple[float, ...]
    power: tuple[float, ...]


def power_spectrum(images: Tensor | NDArray[Any], bands: int = 10) -> Spectrum:
    """Return the radial power spectrum of images or differences, averaged over them.

    Args:
        images: shape `(n, 1, H, W)`, HU.
        bands: number of radial bands up to 0.5 cycles per pixel; the corners beyond belong to the last.

    Raises:
        InputError: images of another shape, none, or too small for so many bands.
    """
    images = torch.as_tensor(images)
    if len(images) == 0:
        raise InputError("a spectrum needs at least one image")
    # Windowed, because patches are not periodic.
    power = radial_bands(images.detach(), bands, window=True).cpu().numpy().astype(np.float64).mean(axis=0)
    centres = [(band + 0.5) / (2 * bands) for band in range(bands)]
    return Spectrum(tuple(centres), tuple(power.tolist()))
