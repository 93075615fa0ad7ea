"""The noise of images as a Gaussian whose covariance is applied without a matrix: a spectrum times a map of deviation."""

__all__ = ["FLOOR", "NoiseCovariance", "Source"]

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from invkit.data.dose.texture import noise_power
from invkit.errors import InputError

FLOOR = 1e-3
"""Least power at any frequency, as a part of the mean power: without it C has no inverse where a kernel lets nothing pass."""
Source = Literal["constant", "simulation", "scans"]
"""One deviation for the whole image, the physical simulation at the image's dose, or the user's own scans."""
CELL = 0.3826  # mean distance from the middle of a square of side 1
LOW = 0.05  # cycles per pixel, below which the measured power is uncertain


@dataclass(frozen=True)
class NoiseCovariance:
    """C = A A^T with A = D F: white noise w, filtered (F), times its deviation (D).

    The filter is periodic over the image, so that A has an inverse in closed form: opposite edges are correlated as neighbours are,
    which reaches as far in as the noise's own correlation, a few pixels.

    Args:
        deviation: of the noise of every pixel, `(H, W)`, or `(N, 1, H, W)` for N images of their own, HU.
        power: of the noise, in any unit, at frequencies in cycles per pixel; by default what was measured on two scanners.
        floor: least power, as a part of the mean.
        source: where deviation and power are from, see `Source`.

    Raises:
        InputError: a deviation that is not positive.
    """

    deviation: Tensor
    power: Callable[[np.ndarray], np.ndarray] = noise_power
    floor: float = FLOOR
    source: Source = "constant"

    def __post_init__(self) -> None:
        if self.deviation.ndim not in (2, 4) or not bool((self.deviation > 0).all()):
            raise InputError("the noise needs a positive deviation for each pixel, (H, W) or (N, 1, H, W)")

    @property
    def size(self) -> tuple[int, int]:
        """Of the images, `(H, W)`."""
        return self.deviation.shape[-2], self.deviation.shape[-1]

    def scaled(self, factor: float) -> "NoiseCovariance":
        """Return `factor` times C."""
        return replace(self, deviation=self.deviation * factor**0.5)

    def cropped(self, deviation: Tensor) -> "NoiseCovariance":
        """Return the same noise on images of another size, `(N, 1, h, w)`."""
        return replace(self, deviation=deviation)

    def white(self, count: int, generator: torch.Generator) -> Tensor:
        """Return `count` draws of w, `(count, 1, H, W)`, on the device of C; they are drawn on the generator's."""
        drawn = torch.randn(count, 1, *self.size, generator=generator, device=generator.device)
        return drawn.to(self.deviation)

    def draws(self, count: int, generator: torch.Generator) -> Tensor:
        """Return `count` draws of the noise, `(count, 1, H, W)`, HU."""
        return self.root(self.white(count, generator))

    def root(self, white: Tensor) -> Tensor:
        """Return A w, HU, for w `(N, 1, H, W)`."""
        return self.filtered(white, self.gain) * self.deviation

    def root_transposed(self, images: Tensor) -> Tensor:
        """Return A^T d for images d `(N, 1, H, W)`."""
        return self.filtered(images * self.deviation, self.gain)

    def apply(self, images: Tensor) -> Tensor:
        """Return C d for images d `(N, 1, H, W)`."""
        return self.root(self.root_transposed(images))

    def whitened(self, images: Tensor) -> Tensor:
        """Return w = A^-1 d for images d `(N, 1, H, W)`; its square is d^T C^-1 d."""
        return self.filtered(images / self.deviation, 1 / self.gain)

    def blurred(self, images: Tensor) -> Tensor:
        """Return images `(N, 1, H, W)` as the kernel that made this noise would show them."""
        return self.filtered(images, self.transfer)

    def filtered(self, images: Tensor, response: Tensor) -> Tensor:
        """Return images `(N, 1, H, W)` filtered by a response on the half plane of `rfft2`."""
        found: Tensor = torch.fft.irfft2(torch.fft.rfft2(images) * response, s=self.size)
        return found

    @cached_property
    def gain(self) -> Tensor:
        """Root of the noise power on the half plane of `rfft2`, `(H, W // 2 + 1)`; the noise has unit variance before D."""
        height, width = self.size
        # The half plane holds every frequency once of twice, but those that are their own mirror image.
        weight = np.full((height, width // 2 + 1), 2.0)
        weight[:, 0] = 1.0
        if width % 2 == 0:
            weight[:, -1] = 1.0

        def mean(power: np.ndarray) -> float:
            return float((power * weight).sum() / (height * width))

        # A ramp has no power at frequency 0 itself, but its mean over the cell of the grid around 0 is that at 0.38 of a cell.
        power = self.power(np.maximum(self._radius, CELL / max(height, width)))
        power = np.maximum(power, self.floor * mean(power))
        return self._like(np.sqrt(power / mean(power)))

    @cached_property
    def transfer(self) -> Tensor:
        """The modulation transfer of the kernel that made this noise, on the half plane of `rfft2`, 1 at frequency 0.

        Filtered back-projection makes noise of the power f T(f)^2 (Riederer, Pelc, Chesler 1978, Phys Med Biol 23, 446), so T is
        the root of power over frequency. Below 0.05 cycles per pixel, where the power is uncertain, T is 1.
        """
        radius = np.maximum(self._radius, LOW)
        ratio = self.power(radius) / radius
        return self._like(np.sqrt(np.minimum(ratio / (self.power(np.array(LOW)) / LOW), 1.0)))

    def _like(self, values: np.ndarray) -> Tensor:
        """Return numbers in the precision and on the device of the noise; the precision first, for not every device has float64."""
        return torch.from_numpy(values).to(self.deviation.dtype).to(self.deviation.device)

    @property
    def _radius(self) -> np.ndarray:
        height, width = self.size
        radius: np.ndarray = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
        return radius
