"""The orthonormal Haar wavelet basis on grids of channels: lossless, and its log-determinant is 0."""

__all__ = ["haar", "pack", "unhaar", "unpack"]

import torch
from torch import Tensor


def haar(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return one level of the transform: coarse `(B, c, h, w)` and details `(B, 3 c, h, w)` of x `(B, c, 2 h, 2 w)`.

    The details are horizontal, vertical and diagonal differences, c channels each. Squares add up to those of x.
    """
    a, b = x[..., ::2, ::2], x[..., ::2, 1::2]
    c, d = x[..., 1::2, ::2], x[..., 1::2, 1::2]
    details = torch.cat([a - b + c - d, a + b - c - d, a - b - c + d], dim=1) / 2
    return (a + b + c + d) / 2, details


def unhaar(low: Tensor, details: Tensor) -> Tensor:
    """Undo `haar`."""
    u, v, w = details.chunk(3, dim=1)
    out = low.new_empty(*low.shape[:-2], 2 * low.shape[-2], 2 * low.shape[-1])
    out[..., ::2, ::2] = (low + u + v + w) / 2
    out[..., ::2, 1::2] = (low - u + v - w) / 2
    out[..., 1::2, ::2] = (low + u - v - w) / 2
    out[..., 1::2, 1::2] = (low - u - v + w) / 2
    return out


def pack(low: Tensor, details: Tensor) -> Tensor:
    """Lay coarse and details out in four quadrants, `(B, c, 2 h, 2 w)`, the coarse one first."""
    u, v, w = details.chunk(3, dim=1)
    return torch.cat([torch.cat([low, u], dim=-1), torch.cat([v, w], dim=-1)], dim=-2)


def unpack(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Undo `pack`."""
    top, bottom = packed.chunk(2, dim=-2)
    low, u = top.chunk(2, dim=-1)
    v, w = bottom.chunk(2, dim=-1)
    return low, torch.cat([u, v, w], dim=1)
