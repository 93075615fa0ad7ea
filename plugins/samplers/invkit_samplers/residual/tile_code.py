"""A code that loses nothing, of a small tile of an image: its cosine transform; and what stands around the tile."""

__all__ = ["TileCode"]

import math

import torch
from torch import Tensor
from torch.nn import functional

from invkit import ConfigError

UNIT = 30.0  # HU of a code's number: about the noise of a low-dose image, so that codes are of order 1
AROUND = 100.0  # HU, the same for the surroundings
BLOCKS = 12  # means along each side of the surroundings, which are three tiles wide
DEQUANTISED = 1.0  # HU: CT is stored in whole HU, and a likelihood needs a density


class TileCode:
    """Orthonormal cosine coefficients of square tiles, in units of 30 HU, and conditions of the same tiles.

    Args:
        d: numbers of a code, the square of the tile's side.

    Raises:
        ConfigError: d is no square of a multiple of 4.
    """

    def __init__(self, d: int) -> None:
        self.d, self.side = d, math.isqrt(d)
        if self.side**2 != d or self.side % 4 or d == 0:
            raise ConfigError(
                f"a code of d = {d} numbers is no square tile whose side is a multiple of 4: take 16, 64 or 256"
            )
        k, n = torch.arange(self.side), torch.arange(self.side)
        basis = torch.cos(math.pi / self.side * (n[None] + 0.5) * k[:, None]) * math.sqrt(2 / self.side)
        basis[0] /= math.sqrt(2)
        self._basis = basis

    @property
    def log_var(self) -> float:
        """Logarithm of the variance that dequantisation adds to each number of a code."""
        return 2 * math.log(DEQUANTISED / UNIT)

    @property
    def inputs(self) -> int:
        """Numbers of a tile's condition."""
        return self.d + BLOCKS**2

    def encode(self, tiles: Tensor) -> Tensor:
        """Return codes `(n, d)` of tiles `(n, 1, side, side)`, HU."""
        basis = self._basis.to(tiles)
        return (basis @ tiles[:, 0] @ basis.T).flatten(1) / UNIT

    def decode(self, codes: Tensor) -> Tensor:
        """Return tiles `(n, 1, side, side)` in HU of codes `(n, d)`."""
        basis = self._basis.to(codes)
        return (basis.T @ (UNIT * codes).view(-1, 1, self.side, self.side)) @ basis

    def at(self, images: Tensor, corners: Tensor) -> Tensor:
        """Return one tile of each image, `(n, 1, side, side)`.

        Args:
            images: `(n, 1, H, W)`.
            corners: row and column of each tile's corner, `(n, 2)`.
        """
        return _cut(images, corners, self.side)

    def condition(self, base: Tensor, estimate: Tensor, corners: Tensor) -> Tensor:
        """Return what is known of one tile of each image, `(n, inputs)`.

        The code of the expected residual, `estimate - base`; and means of the base over blocks of the tile and its eight
        neighbours, less their mean: how strong a residual may be depends on the anatomy around it.

        Args:
            base: what residuals are counted from, `(n, 1, H, W)`, HU.
            estimate: the image estimated from z, `(n, 1, H, W)`, HU.
            corners: as in `at`.
        """
        expected = self.encode(self.at(estimate - base, corners))
        around = _cut(functional.pad(base, (self.side,) * 4, mode="replicate"), corners, 3 * self.side)
        means = functional.avg_pool2d(around, 3 * self.side // BLOCKS).flatten(1)
        return torch.cat([expected, (means - means.mean(1, keepdim=True)) / AROUND], dim=1)


def _cut(images: Tensor, corners: Tensor, side: int) -> Tensor:
    places = zip(images, corners.tolist(), strict=True)
    return torch.stack(
        [image[:, row : row + side, column : column + side] for image, (row, column) in places]
    )
