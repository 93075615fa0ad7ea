"""Discs with smooth edges, and places in soft tissue to put them."""

__all__ = ["disc", "disc_places"]

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from invkit.errors import UsageError

LINES = 32  # of a pixel, over which a disc's chord is averaged
SOFT_TISSUE = (-200.0, 250.0)  # HU, mean over the disc


def disc(height: int, width: int, centre: tuple[float, float], radius: float) -> Tensor:
    """Return how much of each pixel a disc covers, shape `(height, width)`, 0 to 1, float64; its sum is the disc's area.

    Pixel (i, j) is the square of side 1 around (i, j). The chord of each of 32 lines through it is exact.

    Args:
        height: rows.
        width: columns.
        centre: row and column.
        radius: pixels.

    Raises:
        UsageError: the radius is not positive.
    """
    if not radius > 0:
        raise UsageError(f"a disc needs a positive radius, got {radius} pixels")
    lines = (torch.arange(height * LINES, dtype=torch.float64) + 0.5) / LINES - 0.5 - centre[0]
    half = (radius**2 - lines.square()).clamp_min(0).sqrt()[:, None]
    left = torch.arange(width, dtype=torch.float64)[None, :] - 0.5 - centre[1]
    chord = (torch.minimum(left + 1, half) - torch.maximum(left, -half)).clamp_min(0)
    return chord.view(height, LINES, width).mean(1)


def disc_places(
    image: Tensor,
    radius: float,
    count: int,
    *,
    seed: int,
    margin: int = 0,
    tissue: tuple[float, float] = SOFT_TISSUE,
) -> Tensor:
    """Return centres of discs that lie in soft tissue, rows and columns, `(k, 2)` with k up to `count`.

    Args:
        image: `(1, 1, H, W)`, HU.
        radius: pixels.
        count: how many are wanted; fewer come back where there are no more.
        seed: of the choice.
        margin: pixels that a disc keeps from the border, beyond its radius.
        tissue: least and largest mean over the disc, HU.
    """
    reach = int(np.ceil(radius))
    kernel = disc(2 * reach + 1, 2 * reach + 1, (reach, reach), radius)
    room = reach + margin
    inner = image[0, 0, margin : image.shape[-2] - margin, margin : image.shape[-1] - margin].cpu().double()
    if min(inner.shape) < 2 * reach + 1:
        return torch.empty(0, 2, dtype=torch.int64)
    mean = conv2d(inner[None, None], (kernel / kernel.sum()).to(inner)[None, None])[0, 0]
    places = ((mean > tissue[0]) & (mean < tissue[1])).nonzero() + room
    order = np.random.default_rng(seed).permutation(len(places))[:count]
    return places[torch.from_numpy(order)]
