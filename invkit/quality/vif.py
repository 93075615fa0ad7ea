"""Visual information fidelity in the pixel domain: how much of what a reference tells survives in another image."""

__all__ = ["vif"]

import torch
from torch import Tensor

from invkit.errors import InputError
from invkit.quality.image import HU_HIGH, HU_LOW, check_pair
from invkit.training.precision import in_float64

WINDOWS = (
    17,
    9,
    5,
    3,
)  # sides of the Gaussian windows, from the finest scale to the coarsest; sigma is a fifth
SMALLEST = 41  # pixels: what all four scales need
TINY = 1e-10


def vif(prediction: Tensor, target: Tensor, *, noise: float = 2.0, clip: bool = False) -> Tensor:
    """Return the visual information fidelity per image, `(B,)`, float64; 1 for equal images.

    At each of four scales, within a Gaussian window, the prediction is modelled as `g * target + v`, g and the variance of
    v by least squares; fidelity is the information about the source in the prediction over that in the target, both seen
    through the same noise. It can exceed 1 where contrast was enhanced. It is not symmetric.

    Source: Sheikh and Bovik, IEEE Trans Image Process 15(2), 2006, eq. 11, in its pixel-domain form (VIF-P).

    Args:
        prediction: shape `(B, 1, H, W)`, HU; at least 41 x 41 pixels.
        target: the reference, shape `(B, 1, H, W)`, HU.
        noise: variance of the visual noise, in squared units of the images.
        clip: clip both to [-1024, 1900] HU first, as the LDCT benchmark does.

    Raises:
        InputError: the shapes differ, or an image is too small.
    """
    check_pair(prediction, target)
    if min(prediction.shape[2:]) < SMALLEST:
        raise InputError(
            f"VIF needs images of at least {SMALLEST} x {SMALLEST} pixels, got {tuple(prediction.shape[2:])}"
        )
    p, t = in_float64(prediction), in_float64(target)
    if clip:
        p, t = p.clamp(HU_LOW, HU_HIGH), t.clamp(HU_LOW, HU_HIGH)
    survived = told = torch.zeros(len(p), dtype=torch.float64, device=p.device)
    for scale, side in enumerate(WINDOWS):
        if scale:
            p, t = (_blurred(image, side)[:, :, ::2, ::2] for image in (p, t))
        mean_p, mean_t = _blurred(p, side), _blurred(t, side)
        variance_p = (_blurred(p * p, side) - mean_p**2).clamp_min(0)
        variance_t = (_blurred(t * t, side) - mean_t**2).clamp_min(0)
        shared = _blurred(p * t, side) - mean_p * mean_t
        flat = (variance_t < TINY) | (variance_p < TINY)
        gain = (shared / (variance_t + TINY)).clamp_min(0).masked_fill(flat, 0.0)
        # Where the gain was cut to 0, all of the prediction's variance is distortion.
        left = torch.where(gain > 0, variance_p - gain * shared, variance_p).clamp_min(TINY)
        source = torch.where(variance_t < TINY, 0.0, variance_t)
        survived = survived + (1 + gain**2 * source / (left + noise)).log().flatten(1).sum(1)
        told = told + (1 + source / noise).log().flatten(1).sum(1)
    # Two flat images share all that there is.
    return torch.where(told > 0, survived / told, 1.0)


def _blurred(x: Tensor, side: int) -> Tensor:
    """Return weighted means over a Gaussian window of `side` pixels, where it lies inside the image."""
    place = torch.arange(side, dtype=x.dtype, device=x.device) - side // 2
    weights = (-0.5 * (place / (side / 5)) ** 2).exp()
    weights = weights / weights.sum()
    rows: Tensor = x.unfold(-1, side, 1) @ weights
    blurred: Tensor = rows.unfold(-2, side, 1) @ weights
    return blurred
