"""Oracles that erase number by number: soft thresholding of wavelet coefficients, rounding of grey values."""

__all__ = ["Haar", "Quantiser", "Shrink", "SoftThreshold"]

import torch
from torch import Tensor, nn


class Haar(nn.Module):
    """The orthonormal Haar transform of images whose sides are multiples of `2 ** levels`, or its inverse.

    Coefficients lie as usual (Mallat 1989): the coarse image in the upper left corner, details around it.
    """

    def __init__(self, levels: int, *, inverse: bool = False) -> None:
        super().__init__()
        self.levels, self.inverse = levels, inverse

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, 1, H, W)` to the same shape."""
        return _synthesis(x, self.levels) if self.inverse else _analysis(x, self.levels)


def _analysis(x: Tensor, levels: int) -> Tensor:
    if levels == 0:
        return x
    a, b, c, d = (x[..., row::2, column::2] for row in (0, 1) for column in (0, 1))
    coarse = _analysis((a + b + c + d) / 2, levels - 1)
    upper = torch.cat([coarse, (a - b + c - d) / 2], -1)
    lower = torch.cat([(a + b - c - d) / 2, (a - b - c + d) / 2], -1)
    return torch.cat([upper, lower], -2)


def _synthesis(c: Tensor, levels: int) -> Tensor:
    if levels == 0:
        return c
    upper, lower = c.chunk(2, -2)
    (coarse, across), (down, both) = upper.chunk(2, -1), lower.chunk(2, -1)
    coarse = _synthesis(coarse, levels - 1)
    even = torch.stack([coarse + across + down + both, coarse - across + down - both], -1).flatten(-2) / 2
    odd = torch.stack([coarse + across - down - both, coarse - across - down + both], -1).flatten(-2) / 2
    return torch.stack([even, odd], -2).flatten(-3, -2)


class Shrink(nn.Module):
    """sign(c) max(abs(c) - tau, 0) of every detail; the coarse image stays as it is.

    Args:
        tau: HU, in the scale of orthonormal coefficients.
        levels: of the transform.
    """

    def __init__(self, tau: float, levels: int) -> None:
        super().__init__()
        self.tau, self.levels = tau, levels

    def forward(self, c: Tensor) -> Tensor:
        """Shrink coefficients `(B, 1, H, W)`."""
        height, width = (side >> self.levels for side in c.shape[-2:])
        coarse = torch.zeros(c.shape[-2:], dtype=torch.bool, device=c.device)
        coarse[:height, :width] = True
        return torch.where(coarse, c, c - c.clamp(-self.tau, self.tau))


class SoftThreshold(nn.Module):
    """Soft thresholding in the Haar basis (Donoho 1995): the fiber is a box, exactly.

    Details with abs(c) <= tau may take any other value of [-tau, tau]; all others are fixed by z.
    """

    def __init__(self, tau: float, levels: int) -> None:
        super().__init__()
        self.analysis, self.shrink = Haar(levels), Shrink(tau, levels)
        self.synthesis = Haar(levels, inverse=True)

    def forward(self, x: Tensor) -> Tensor:
        """Denoise images `(B, 1, H, W)`, HU."""
        out: Tensor = self.synthesis(self.shrink(self.analysis(x)))
        return out


class Round(nn.Module):
    """The nearest multiple of `step`, HU. Its derivative is 0 wherever it has one, so none is passed on."""

    def __init__(self, step: float) -> None:
        super().__init__()
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        """Round images `(B, 1, H, W)`."""
        return (x.detach() / self.step).round() * self.step


class Quantiser(nn.Module):
    """Grey values in steps: the fiber is a cube of side `step` HU, and there is no gradient to find it by."""

    def __init__(self, step: float) -> None:
        super().__init__()
        self.round, self.out = Round(step), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Round images `(B, 1, H, W)`, HU."""
        out: Tensor = self.out(self.round(x))
        return out
