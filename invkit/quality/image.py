"""Image quality in HU and on display windows, as the low-dose CT benchmark defines it.

Eulig et al., "Benchmarking deep learning-based low-dose CT image denoising algorithms", Med Phys 2024: RMSE
in HU on values clipped to [-1024, 1900]; SSIM and PSNR on images mapped to [0, 1] by the display window of
the anatomy.
"""

__all__ = ["HU_HIGH", "HU_LOW", "check_pair", "psnr", "rmse", "ssim"]

from collections.abc import Callable

import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from invkit.errors import InputError
from invkit.images.window import Window, apply_window
from invkit.training.precision import in_float64

HU_LOW, HU_HIGH = -1024.0, 1900.0

# scikit-image has no types
_psnr: Callable[..., float] = peak_signal_noise_ratio
_ssim: Callable[..., float] = structural_similarity


def check_pair(prediction: Tensor, target: Tensor) -> None:
    """Raise InputError where two batches of images cannot be compared."""
    if prediction.shape != target.shape or prediction.ndim != 4 or prediction.shape[1] != 1:
        raise InputError(
            "images to compare must both be (B, 1, H, W), got "
            f"{tuple(prediction.shape)} and {tuple(target.shape)}"
        )


def rmse(prediction: Tensor, target: Tensor, *, clip: bool = False) -> Tensor:
    """Return the root mean square error per image, `(B,)`, HU, float64.

    Args:
        prediction: shape `(B, 1, H, W)`, HU.
        target: shape `(B, 1, H, W)`, HU.
        clip: clip both to [-1024, 1900] HU first, as the benchmark does.
    """
    check_pair(prediction, target)
    a, b = in_float64(prediction), in_float64(target)
    if clip:
        a, b = a.clamp(HU_LOW, HU_HIGH), b.clamp(HU_LOW, HU_HIGH)
    return (a - b).square().flatten(1).mean(1).sqrt()


def psnr(prediction: Tensor, target: Tensor, window: Window) -> Tensor:
    """Return the peak signal-to-noise ratio per image on a display window, `(B,)`, dB, float64.

    Equal images have an infinite one.

    Args:
        prediction: shape `(B, 1, H, W)`, HU.
        target: shape `(B, 1, H, W)`, HU.
        window: the display window; its whole range counts as peak.
    """
    check_pair(prediction, target)
    a, b = _windowed(prediction, window), _windowed(target, window)
    values = [
        float("inf") if torch.equal(p, t) else _psnr(t.numpy(), p.numpy(), data_range=1.0)
        for p, t in zip(a, b, strict=True)
    ]
    return torch.tensor(values, dtype=torch.float64)


def ssim(prediction: Tensor, target: Tensor, window: Window) -> Tensor:
    """Return the structural similarity per image on a display window, `(B,)`, float64.

    Source: Wang et al. 2004, with a uniform 7 x 7 neighbourhood.

    Args:
        prediction: shape `(B, 1, H, W)`, HU; at least 7 x 7 pixels.
        target: shape `(B, 1, H, W)`, HU.
        window: the display window.
    """
    check_pair(prediction, target)
    if min(prediction.shape[2:]) < 7:
        raise InputError(f"SSIM needs images of at least 7 x 7 pixels, got {tuple(prediction.shape[2:])}")
    a, b = _windowed(prediction, window), _windowed(target, window)
    values = [_ssim(t.numpy(), p.numpy(), data_range=1.0) for p, t in zip(a, b, strict=True)]
    return torch.tensor(values, dtype=torch.float64)


def _windowed(x: Tensor, window: Window) -> Tensor:
    """Return windowed images as `(B, H, W)` float64 on the cpu, where scikit-image works."""
    return apply_window(x.detach().to("cpu", torch.float64), window)[:, 0]
