"""The covariance of an image's noise as a scanner would have made it: the physical simulation at the image's own dose."""

__all__ = ["LEAST_NOISE", "LEAST_SIDE", "PIXELS", "RANGE", "noise_of", "simulated_deviation"]

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from invkit.data.dose.image import estimate_noise
from invkit.data.dose.kernel import Kernel, chosen_kernel
from invkit.data.dose.rays import noise_deviation
from invkit.data.dose.scanner import SCANNER, Scanner
from invkit.data.fields import SPACING
from invkit.errors import ImageError
from invkit.noise.covariance import NoiseCovariance

LEAST_NOISE = 0.1  # HU: no image is without any
LEAST_SIDE = 32  # pixels: of fewer, rays tell no place from another
RANGE = -1200.0, 20_000.0  # HU, beyond which an image is no CT in HU
PIXELS = 0.2, 1.2  # mm: larger ones alias what the kernels pass


def noise_of(
    x: Tensor, spacing: float | None, *, stationary: bool = False, scanner: Scanner = SCANNER
) -> NoiseCovariance:
    """Return the covariance of the noise of an image.

    The map of deviation is that of filtered back-projection, propagated from the rays through this image, and the spectrum that of
    the scanner's kernel at the size of these pixels. The photons are those at which what a high-pass filter leaves of such noise in
    soft tissue is what it leaves of the image. Where the noise was added in the image, and where the image cannot be simulated,
    because it is tiny, not in HU, without noise or of pixels no scanner makes, the deviation is `estimate_noise` everywhere and the
    spectrum the measured one; `source` says so.

    Args:
        x: the whole image, `(1, 1, H, W)`, HU.
        spacing: distance of the pixels' centres, mm; without one that of `SPACING`, as where low dose is simulated for training.
        stationary: its noise was added in the image, the same everywhere and with the measured spectrum in cycles per pixel, for
            which `estimate_noise` is its level in soft tissue.
        scanner: whose noise it is.
    """
    level = max(estimate_noise(x), LEAST_NOISE)
    found = None if stationary else simulated_deviation(x, spacing, level=None, scanner=scanner)
    if found is None:
        return NoiseCovariance(torch.full_like(x[0, 0], level))
    power = power_of(chosen_kernel(scanner.kernel), spacing or SPACING[0])
    return NoiseCovariance(found, power, source="simulation")


def simulated_deviation(
    x: Tensor, spacing: float | None, *, level: float | None, scanner: Scanner = SCANNER
) -> Tensor | None:
    """Return the deviation of a scanner's noise at every pixel, `(H, W)`, HU; `None` where the image cannot be simulated.

    Args:
        x: the whole image, `(1, 1, H, W)`, HU.
        spacing: distance of the pixels' centres, mm; `None` where it is not known.
        level: median over soft tissue, HU; by default estimated from the image.
        scanner: whose noise it is.
    """
    side = spacing or SPACING[0]
    usable = min(x.shape[-2:]) >= LEAST_SIDE and PIXELS[0] <= side <= PIXELS[1]
    if not (usable and RANGE[0] <= float(x.min()) and float(x.max()) <= RANGE[1]):
        return None
    try:
        found = noise_deviation(x.detach().cpu().float(), (side, side), noise=level, scanner=scanner)
    except ImageError:
        return None
    if not bool(found.isfinite().all()):
        return None
    return found.clamp(min=LEAST_NOISE).to(x.dtype).to(x.device)


def power_of(kernel: Kernel, spacing: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return the noise power of a kernel over cycles per pixel, for pixels of this size in mm."""

    def power(frequency: np.ndarray) -> np.ndarray:
        per_mm = torch.from_numpy(np.atleast_1d(frequency / spacing))
        return kernel.power(per_mm).numpy().reshape(np.shape(frequency))

    return power
