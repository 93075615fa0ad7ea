"""Reconstruction kernels: what apodises the ramp, and so gives noise its texture."""

__all__ = ["KERNELS", "MEASURED_PIXEL", "Kernel", "chosen_kernel"]

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from invkit.data.dose.texture import MEASURED_NPS, noise_power
from invkit.errors import UsageError

MEASURED_PIXEL = 0.91
"""Middle of the pixels (0.87 to 0.95 mm) on which `MEASURED_NPS` was measured, mm."""


@dataclass(frozen=True)
class Kernel:
    """A factor on the ramp filter, over frequency in cycles per mm, linear between the nodes and 0 beyond.

    White noise on the rays gets the power `f * response(f) ** 2` in the image (Riederer, Pelc and Chesler
    1978).

    Args:
        name: what people call it.
        nodes: (frequency in cycles per mm, response), frequencies growing from 0.
    """

    name: str
    nodes: tuple[tuple[float, float], ...]

    @classmethod
    def exponential(cls, name: str, cutoff: float, exponent: float) -> "Kernel":
        """Return the kernel whose noise power is f exp(-(f / cutoff) ** exponent), cutoff in cycles per mm."""
        frequency = np.linspace(0, 4 * cutoff, 401)
        return cls.tabulated(name, frequency, np.exp(-0.5 * (frequency / cutoff) ** exponent))

    @classmethod
    def of_noise(cls, name: str, power: Sequence[tuple[float, float]], pixel: float) -> "Kernel":
        """Return the kernel that makes noise of a measured power spectrum.

        Args:
            name: what people call it.
            power: (frequency in cycles per pixel, noise power), from 0 up.
            pixel: side of the pixels that it was measured on, mm.
        """
        table = np.array(power)
        frequency = np.linspace(0, table[-1, 0], 301)[1:]
        response = np.sqrt(np.interp(frequency, table[:, 0], table[:, 1]) / frequency)
        # Below the first node beyond 0 a spectrum holds what is left of anatomy; the ramp alone goes on there.
        response[frequency < table[1, 0]] = np.sqrt(table[1, 1] / table[1, 0])
        return cls.tabulated(
            name, np.concatenate([[0], frequency]) / pixel, np.concatenate([response[:1], response])
        )

    @classmethod
    def tabulated(cls, name: str, frequency: np.ndarray, response: np.ndarray) -> "Kernel":
        """Return the kernel with these nodes, its response scaled to 1 at frequency 0."""
        scaled = response / response[0]
        return cls(name, tuple(zip(frequency.tolist(), scaled.tolist(), strict=True)))

    def response(self, frequency: Tensor) -> Tensor:
        """Return the factor at frequencies in cycles per mm, of the same shape."""
        nodes = np.array(self.nodes)
        values = np.interp(frequency.abs().cpu().numpy(), nodes[:, 0], nodes[:, 1], right=0.0)
        return torch.from_numpy(values).to(frequency)

    def power(self, frequency: Tensor) -> Tensor:
        """Return the power of its noise at frequencies in cycles per mm, of the same shape, in any unit."""
        return frequency.abs() * self.response(frequency) ** 2


_NODES = sorted({frequency for table in MEASURED_NPS.values() for frequency, _ in table})
_MEASURED_MEAN = tuple(zip(_NODES, noise_power(np.array(_NODES)).tolist(), strict=True))

KERNELS: dict[str, Kernel] = {
    kernel.name: kernel
    for kernel in (
        Kernel.of_noise("standard", _MEASURED_MEAN, MEASURED_PIXEL),
        Kernel.exponential("sharp", 0.45, 4.0),
        Kernel("ramp", ((0.0, 1.0), (0.7, 1.0))),
        *(Kernel.of_noise(name, power, MEASURED_PIXEL) for name, power in MEASURED_NPS.items()),
    )
}
"""The kernels by name. "standard" gives the mean of the two measured spectra, which also stand here alone; "sharp"
has its noise peak at 0.32 cycles per mm and was measured on no scanner; "ramp" ends at a channel's Nyquist
frequency."""


def chosen_kernel(kernel: str | Kernel) -> Kernel:
    """Return the kernel of this name, or the one that is given.

    Raises:
        UsageError: there is no such kernel.
    """
    if isinstance(kernel, Kernel):
        return kernel
    if kernel not in KERNELS:
        raise UsageError(f"there is no kernel {kernel!r}; kernels are {', '.join(KERNELS)}")
    return KERNELS[kernel]
