"""Noise with the texture of CT: Gaussian fields with a noise power spectrum measured on two scanners."""

__all__ = ["MEASURED_NPS", "noise_power", "noise_texture"]

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from invkit.errors import UsageError

# Of COVID-19-NY-SBU, The Cancer Imaging Archive, doi 10.7937/TCIA.BBAG-2923, CC BY 4.0 (GE LightSpeed VCT, kernel
# STANDARD; Toshiba Aquilion ONE, kernel FC17).
# Radial noise power over cycles per pixel, largest value about 1: the median over 40 flat 48 x 48 soft-tissue
# patches (cubic trend removed, Hann window) of the slices with the flattest tissue, one of GE and two of
# Toshiba, pixels of 0.87 to 0.95 mm, smoothed by hand to within 24 % (GE) and 13 % (Toshiba) of what was
# measured. Below 0.05 what is left of anatomy and the window's leakage hide the truth; there the values fall
# along the ramp of filtered backprojection. The mean of both measurements is f exp(-(f / 0.136) ** 1.38),
# ramp times apodisation, to within 10 % at all but one of the nodes from 0.05 to 0.5. Whoever changes a
# number changes the noise of every phantom: raise PHANTOM_VERSION too.
MEASURED_NPS: dict[str, tuple[tuple[float, float], ...]] = {
    "ge_standard": (
        (0.0, 0.02), (0.025, 0.35), (0.05, 0.61), (0.075, 0.86), (0.1, 0.97), (0.125, 0.97), (0.15, 0.88),
        (0.175, 0.75), (0.2, 0.63), (0.225, 0.5), (0.25, 0.38), (0.3, 0.215), (0.35, 0.155), (0.4, 0.1),
        (0.45, 0.05), (0.5, 0.025), (0.6, 0.004), (0.72, 0.0),
    ),
    "toshiba_fc17": (
        (0.0, 0.02), (0.025, 0.32), (0.05, 0.55), (0.075, 0.65), (0.1, 0.77), (0.125, 0.92), (0.15, 0.97),
        (0.175, 0.94), (0.2, 0.84), (0.225, 0.7), (0.25, 0.55), (0.3, 0.265), (0.35, 0.145), (0.4, 0.065),
        (0.45, 0.03), (0.5, 0.012), (0.6, 0.002), (0.72, 0.0),
    ),
}  # fmt: skip

# Fields are made this much larger than asked and cut: the FFT's noise is periodic, and opposite edges would
# correlate.
MARGIN = 24


def noise_power(frequency: np.ndarray) -> np.ndarray:
    """Return the noise power at frequencies in cycles per pixel: the mean of the measured kernels."""
    tables = [np.array(table) for table in MEASURED_NPS.values()]
    power: np.ndarray = np.mean([np.interp(frequency, table[:, 0], table[:, 1]) for table in tables], axis=0)
    return power


@lru_cache(maxsize=16)
def _gain(height: int, width: int) -> Tensor:
    """Return the filter on the grid of `rfft2`, scaled to keep the variance of white noise."""
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
    gain = np.sqrt(noise_power(radius))
    gain /= np.sqrt(np.mean(gain**2))
    return torch.from_numpy(gain[:, : width // 2 + 1].astype(np.float32))


def noise_texture(
    n: int, height: int, width: int, *, generator: torch.Generator, periodic: bool = False
) -> Tensor:
    """Return fields of CT noise of unit variance, shape `(n, 1, height, width)`, float32.

    The field is white noise filtered to `noise_power` in the Fourier domain. It is stationary: the noise of a
    real slice is stronger in its centre and has streaks along dense bone, which this leaves out.

    Args:
        n: number of fields.
        height: rows.
        width: columns.
        generator: source of randomness; the fields are made on its device.
        periodic: leave the field periodic (opposite edges match), so that any shift of it is noise again.

    Raises:
        UsageError: a size is not positive.
    """
    if n < 0 or height < 1 or width < 1:
        raise UsageError(f"noise needs a positive size, got n={n}, height={height}, width={width}")
    margin = 0 if periodic else MARGIN
    rows, columns = height + margin, width + margin
    rows, columns = rows + rows % 2, columns + columns % 2
    if periodic and (rows, columns) != (height, width):
        raise UsageError(f"periodic noise needs even sizes, got {height} x {width}")
    white = torch.randn((n, rows, columns), generator=generator, device=generator.device)
    spectrum = torch.fft.rfft2(white) * _gain(rows, columns).to(generator.device)
    field = torch.fft.irfft2(spectrum, s=(rows, columns))
    cut: Tensor = field[:, None, :height, :width].contiguous()
    return cut
