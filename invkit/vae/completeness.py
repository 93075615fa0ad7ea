"""What a representation keeps of images: error, rate, and the spectrum of what is lost."""

__all__ = ["Completeness", "completeness"]

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from invkit.images.bands import radial_bands
from invkit.training.precision import in_float64


@dataclass(frozen=True)
class Completeness:
    """A point of the rate-distortion curve, and where in the spectrum the distortion is.

    Args:
        numbers: in the code of one patch.
        rmse: root mean square of x - D(E(x)), HU.
        lost: power of x - D(E(x)) over that of x in ten radial bands from 0 to half a cycle per pixel, `(10,)`,
            Hann-windowed; 0 is lossless, 1 is nothing kept or noise of equal power.
        rate: nats per patch, the divergence of the posterior from the prior, which bounds the mutual information of code and
            patch from above (Alemi et al. 2018, arXiv 1711.00464); `None` where there is no prior of codes.
    """

    numbers: int
    rmse: float
    lost: Tensor
    rate: float | None = None


@torch.no_grad()
def completeness(
    patches: Tensor, reconstruct: Callable[[Tensor], Tensor], *, numbers: int, rate: float | None = None
) -> Completeness:
    """Return what a representation keeps of patches.

    Args:
        patches: held-out, `(n, 1, s, s)`, HU.
        reconstruct: D(E(.)), from and to that shape.
        numbers: in the code of one patch.
        rate: nats per patch, where it is known.
    """
    residual = patches - reconstruct(patches)
    power = [in_float64(radial_bands(image, window=True)).sum(0) for image in (residual, patches)]
    return Completeness(
        numbers=numbers,
        rmse=float(in_float64(residual).square().mean().sqrt()),
        lost=power[0] / power[1],
        rate=rate,
    )
