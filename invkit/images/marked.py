"""What a marked rectangle holds beyond its surroundings."""

__all__ = ["BLUR", "above_surroundings", "contrast_of"]

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dstn, idstn
from scipy.ndimage import gaussian_filter
from torch import Tensor

from invkit.images.box import Box

BLUR = 1.0  # pixels, the deviation of the Gaussian that takes the finest noise out of it


def above_surroundings(images: Tensor, box: Box) -> Tensor:
    """Return what a rectangle of images `(N, 1, H, W)` holds beyond its surroundings, `(N, 1, H, W)`, 0 outside and on its border.

    That is the image less its finest noise, minus the smoothest background that continues what lies on the rectangle's border: the
    harmonic one. It is linear in the image.
    """
    smooth = gaussian_filter(images.detach().cpu().double().numpy(), (0, 0, BLUR, BLUR), mode="nearest")
    inside = smooth[(..., *box.place)]
    found = np.zeros_like(smooth)
    found[(..., *box.place)] = inside - _harmonic(inside)
    return torch.from_numpy(found).to(images.dtype).to(images.device)


def contrast_of(above: Tensor, box: Box) -> Tensor:
    """Return the mean over the ellipse in the middle of the rectangle that has two fifths of its width and height, `(N,)`, float64.

    Args:
        above: what `above_surroundings` gives, `(N, 1, H, W)`, HU.
        box: the rectangle.
    """
    row = (torch.arange(box.height, dtype=torch.float64) - (box.height - 1) / 2) / (box.height / 5)
    column = (torch.arange(box.width, dtype=torch.float64) - (box.width - 1) / 2) / (box.width / 5)
    middle = row[:, None].square() + column[None, :].square() <= 1
    return above.detach().cpu().double()[(..., *box.place)][..., middle].mean((1, 2))


def _harmonic(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return images `(..., h, w)` whose inside is the mean of its four neighbours everywhere, with the border as it is."""
    inner = (..., slice(1, -1), slice(1, -1))
    pulled = np.zeros_like(values[inner])
    pulled[..., 0, :] += values[..., 0, 1:-1]
    pulled[..., -1, :] += values[..., -1, 1:-1]
    pulled[..., :, 0] += values[..., 1:-1, 0]
    pulled[..., :, -1] += values[..., 1:-1, -1]
    rows, columns = pulled.shape[-2:]
    down, across = (2 - 2 * np.cos(np.pi * np.arange(1, n + 1) / (n + 1)) for n in (rows, columns))
    solved = idstn(dstn(pulled, type=1, axes=(-2, -1)) / (down[:, None] + across), type=1, axes=(-2, -1))
    found = values.copy()
    found[inner] = solved
    return found
