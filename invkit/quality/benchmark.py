"""The figures of the LDCT benchmark for pairs of images, under one roof.

Eulig et al., "Benchmarking deep learning-based low-dose CT image denoising algorithms", Med Phys 2024, and its public
code (github.com/eeulig/ldct-benchmark): SSIM and PSNR on the display window of the exam type, RMSE and VIF on values
clipped to [-1024, 1900] HU.
"""

__all__ = ["FIGURES", "Figure", "benchmark_figures"]

from typing import NamedTuple

from torch import Tensor

from invkit.images.window import Window
from invkit.quality.image import psnr, rmse, ssim
from invkit.quality.vif import vif


class Figure(NamedTuple):
    """How a figure is shown.

    Args:
        title: head of its column.
        decimals: digits after the point where there is no interval.
    """

    title: str
    decimals: int


# The benchmark's code hands the full-dose image to torchmetrics as the prediction and the denoised one as the target, so
# its published VIF is the swapped one. Both are given: one for what the measure means, one to compare with the table.
FIGURES: dict[str, Figure] = {
    "ssim": Figure("SSIM", 3),
    "psnr_db": Figure("PSNR dB", 2),
    "rmse_hu": Figure("RMSE HU", 1),
    "vif": Figure("VIF", 3),
    "vif_swapped": Figure("VIF swapped", 3),
}


def benchmark_figures(prediction: Tensor, target: Tensor, window: Window) -> dict[str, Tensor]:
    """Return every figure of `FIGURES` per image, each `(B,)`, float64; the PSNR of equal images is infinite.

    Args:
        prediction: shape `(B, 1, H, W)`, HU; at least 41 x 41 pixels.
        target: the full-dose images, shape `(B, 1, H, W)`, HU.
        window: display window of the exam type.

    Raises:
        InputError: the shapes differ, or the images are too small.
    """
    return {
        "ssim": ssim(prediction, target, window),
        "psnr_db": psnr(prediction, target, window),
        "rmse_hu": rmse(prediction, target, clip=True),
        "vif": vif(prediction, target, clip=True),
        "vif_swapped": vif(target, prediction, clip=True),
    }
