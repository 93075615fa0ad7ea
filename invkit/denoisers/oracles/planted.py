"""Oracles with a planted blind spot in front of a network that keeps everything."""

__all__ = [
    "BlindBand",
    "BlindDisc",
    "BlindRegion",
    "BlindSign",
    "Injective",
    "Planted",
    "Residual",
    "WithoutDiscs",
]

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from invkit.denoisers.oracles.linear import Band

CONTRACTION = 0.5
WIDTH = 50.0  # HU: where the residual blocks bend
TILE, RADIUS, RING = 8, 2.0, 3.5  # pixels


class Residual(nn.Module):
    """x + L s tanh(k * x / s) with the 1-norm of the kernel k at 1, so that the second term has Lipschitz constant L < 1.

    Hence (1 - L) |d| <= |F(x + d) - F(x)| <= (1 + L) |d| for every x and d (Behrmann et al. 2019, lemma 2).

    Args:
        seed: of the kernel, 3 x 3.
    """

    kernel: Tensor

    def __init__(self, seed: int) -> None:
        super().__init__()
        kernel = torch.randn(1, 1, 3, 3, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("kernel", kernel / kernel.abs().sum())

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, 1, H, W)` to the same shape."""
        bent = torch.tanh(functional.conv2d(x, self.kernel.to(x), padding=1) / WIDTH)
        return x + CONTRACTION * WIDTH * bent


class Injective(nn.Module):
    """Two residual blocks, invertible on all images: no two images share an activation.

    abs(Phi(x + d) - Phi(x)) / abs(d) is never less than (1 - L)^2.
    """

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Residual(1), Residual(2))
        self.out = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map images `(B, 1, H, W)`."""
        out: Tensor = self.out(self.blocks(x))
        return out


class Planted(nn.Module):
    """A blind spot, then a network that keeps everything: the fiber is that of the blind spot."""

    def __init__(self, blind: nn.Module) -> None:
        super().__init__()
        self.blind, self.net, self.out = blind, Injective(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map images `(B, 1, H, W)`."""
        out: Tensor = self.out(self.net(self.blind(x)))
        return out


class BlindBand(Band):
    """Takes out the frequencies between `low` and `high`, cycles per pixel."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__(low, high, keep=False)


class BlindRegion(nn.Module):
    """Sets a rectangle to 0 HU; its borders are given as parts of the image's sides."""

    def __init__(self, top: float, bottom: float, left: float, right: float) -> None:
        super().__init__()
        self.rows, self.columns = (top, bottom), (left, right)

    def forward(self, x: Tensor) -> Tensor:
        """Mask images `(B, 1, H, W)`."""
        inside = [
            (place >= math.floor(low * length)) & (place < math.floor(high * length))
            for length, (low, high) in zip(x.shape[-2:], (self.rows, self.columns), strict=True)
            for place in [torch.arange(length, device=x.device)]
        ]
        return torch.where(inside[0][:, None] & inside[1], 0.0, x)


class BlindDisc(nn.Module):
    """Takes out low contrast of small discs, one in the middle of each 8 x 8 pixels.

    The contrast a of a place is the mean over a disc of radius 2 pixels less the mean over a ring around it up to 3.5
    pixels. What is taken out is clip(a, -tau, tau) times the disc, so that a becomes soft-thresholded. Discs and rings of
    different places do not touch, so the fiber is a box: the contrast of a place with abs(a) <= tau may take any other
    value of [-tau, tau], and nothing else may change.

    Args:
        tau: HU of contrast.
    """

    disc: Tensor
    contrast: Tensor

    def __init__(self, tau: float) -> None:
        super().__init__()
        self.tau = tau
        place = torch.arange(TILE) - TILE // 2
        squares = place.square()[:, None] + place.square()
        disc = (squares <= RADIUS**2).float()
        ring = ((squares > RADIUS**2) & (squares <= RING**2)).float()
        self.register_buffer("disc", disc[None, None])
        self.register_buffer("contrast", (disc / disc.sum() - ring / ring.sum())[None, None])

    def forward(self, x: Tensor) -> Tensor:
        """Map images `(B, 1, H, W)`, their sides multiples of 8."""
        contrast = functional.conv2d(x, self.contrast.to(x), stride=TILE)
        unseen = contrast.clamp(-self.tau, self.tau)
        return x - functional.conv_transpose2d(unseen, self.disc.to(x), stride=TILE)


class BlindSign(nn.Module):
    """x + (abs(a) - a) p with a = <x, p>, p a plane wave of length 1: the mirror image x - 2 a p gives the same."""

    def forward(self, x: Tensor) -> Tensor:
        """Map images `(B, 1, H, W)`."""
        height, width = x.shape[-2:]
        rows = torch.arange(height, dtype=x.dtype, device=x.device)[:, None]
        columns = torch.arange(width, dtype=x.dtype, device=x.device)
        wave = torch.cos(2 * math.pi * (0.11 * rows + 0.07 * columns))
        wave = wave / wave.norm()
        a = (x * wave).sum((-2, -1), keepdim=True)
        out: Tensor = x + (a.abs() - a) * wave
        return out


class WithoutDiscs(nn.Module):
    """Takes the contrast of some discs out of an image, and leaves that of others, exactly.

    x - sum of d_i <w_i, x> over the discs to be taken out, with w_i in the span of all discs and <w_i, d_j> = 1 for j = i, else 0.

    Args:
        discs: `(n, 1, H, W)`; linearly independent.
        small: how many of them, the first ones, are taken out.
    """

    def __init__(self, discs: Tensor, small: int) -> None:
        super().__init__()
        d = discs.flatten(1).double()
        dual = torch.linalg.solve(d @ d.T, d)
        self.projection = d[:small].T @ dual[:small]
        self.out = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Take discs out of images `(B, 1, H, W)`."""
        found: Tensor = self.out(x - (x.flatten(1) @ self.projection.T.to(x)).view_as(x))
        return found
