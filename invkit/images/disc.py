"""Discs with smooth edges."""

__all__ = ["disc"]

import torch
from torch import Tensor

from invkit.errors import UsageError

LINES = 32  # of a pixel, over which a disc's chord is averaged


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
