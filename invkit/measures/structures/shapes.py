"""What is put into images: discs, edges, line pairs and textures, before the blur of the scanner's kernel."""

__all__ = ["DISCS", "SHAPES", "Kind", "Shape"]

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from invkit.images.disc import disc
from invkit.statistics.intervals import number
from invkit.training.seeds import generator

Kind = Literal["disc", "edge", "line_pair", "texture"]
PARTS = 16  # of a pixel's side, at whose middles a pattern is averaged
TURN = math.pi / 4  # from each place to the next, of edges and lines
ACROSS = 2.0  # sizes from the middle of lines or of a texture to their rim
FULL_TO_DEVIATION = 2 * math.sqrt(2 * math.log(2))


@dataclass(frozen=True)
class Shape:
    """One kind of structure at one size.

    A disc is 1 inside, 0 outside. All others have no mean. An edge is a step from -1/2 to 1/2, in a window that falls to half
    within its length. Lines are two pairs, -1/2 and 1/2. A texture is low-pass noise in a window, with a deviation of 1/2 and
    without its mean: the lumpy background of Rolland and Barrett (1992, J Opt Soc Am A 9, 649) in the limit of many Gaussian
    lumps. Edges and lines turn by 45 degrees from place to place, and every place has a texture of its own.

    Args:
        kind: of structure.
        size: a disc's radius, an edge's length, a line's width, full width at half maximum of a texture's lumps; pixels.
    """

    kind: Kind
    size: float

    @property
    def radius(self) -> float:
        """Of the disc that holds all of it, pixels."""
        return ACROSS * self.size if self.kind in ("line_pair", "texture") else self.size

    @property
    def name(self) -> str:
        """In words, after "of"."""
        names = {
            "disc": "discs of radius",
            "edge": "edges of",
            "line_pair": "line pairs of",
            "texture": "texture of",
        }
        return f"{names[self.kind]} {number(self.size)} px"

    def at(self, centres: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the structure at places of images, `(N, 1, h, w)`, float64.

        Args:
            centres: one place in each image, rows and columns, `(N, 2)`.
            size: `(h, w)` of the images.
        """
        height, width = size
        if self.kind == "disc":
            places = [(float(row), float(column)) for row, column in centres]
            return torch.stack([disc(height, width, place, self.radius)[None] for place in places])
        found = torch.zeros(len(centres), 1, height, width, dtype=torch.float64)
        reach = math.ceil(self.radius)
        for k, (row, column) in enumerate(centres.tolist()):
            there = slice(row - reach, row + reach + 1), slice(column - reach, column + reach + 1)
            found[(k, 0, *there)] = self._pattern(k, reach)
        return found

    def kept(self, change: Tensor, structures: Tensor, shapes: Tensor) -> Tensor:
        """Return the part of a structure's contrast that a change has, `(N,)`.

        For discs it is the mean over the disc; for patterns without a mean, the projection <change, d> / <d, d>.

        Args:
            change: f(x + d) - f(x), `(N, 1, h, w)`, HU.
            structures: d, likewise.
            shapes: as `at` returns them.
        """
        weights = (shapes > 0.5).to(change) if self.kind == "disc" else structures
        return (change * weights).flatten(1).sum(1) / (structures * weights).flatten(1).sum(1)

    def _pattern(self, place: int, reach: int) -> Tensor:
        """Return an edge, lines or a texture, `(2 reach + 1, 2 reach + 1)`, without a mean."""
        if self.kind == "texture":
            return self._texture(place, reach)
        angle = TURN * place

        def value(row: Tensor, column: Tensor) -> Tensor:
            across = row * math.cos(angle) + column * math.sin(angle)
            if self.kind == "edge":
                return across.sign() / 2 * _window(row, column, self.radius)
            inside = row.square() + column.square() <= self.radius**2
            return ((across / self.size).floor() % 2 - 0.5) * inside

        return _averaged(value, reach)

    def _texture(self, place: int, reach: int) -> Tensor:
        side = 2 * reach + 1
        deviation = self.size / FULL_TO_DEVIATION
        margin = math.ceil(4 * deviation)
        drawn = generator(place, "texture", str(self.size))
        white = torch.randn(side + 2 * margin, side + 2 * margin, generator=drawn, dtype=torch.float64)
        offsets = torch.arange(-margin, margin + 1, dtype=torch.float64)
        lump = torch.exp(-(offsets**2) / (2 * deviation**2))
        field = torch.nn.functional.conv2d(white[None, None], lump[:, None].mul(lump)[None, None])[0, 0]
        window = _averaged(lambda row, column: _window(row, column, self.radius), reach)
        pattern = window * (field - (window * field).sum() / window.sum())
        # A deviation of 1/2 where the window is 1.
        found: Tensor = pattern / (2 * (pattern.square().sum() / window.square().sum()).sqrt())
        return found


def _window(row: Tensor, column: Tensor, radius: float) -> Tensor:
    """Return a smooth window: 1 in the middle, 1/2 halfway, 0 at the radius."""
    away = (row.square() + column.square()).sqrt().clamp(max=radius)
    return torch.cos(math.pi * away / (2 * radius)).square()


def _averaged(value: Callable[[Tensor, Tensor], Tensor], reach: int) -> Tensor:
    """Return the means over pixels of a function of rows and columns from the middle."""
    side = 2 * reach + 1
    at = (torch.arange(side * PARTS, dtype=torch.float64) + 0.5) / PARTS - 0.5 - reach
    fine = value(at[:, None].expand(len(at), len(at)), at[None, :].expand(len(at), len(at)))
    return fine.view(side, PARTS, side, PARTS).mean((1, 3))


def _of(kind: Kind, *sizes: float) -> Iterator[Shape]:
    return (Shape(kind, size) for size in sizes)


DISCS = tuple(_of("disc", 1.0, 2.0, 4.0, 8.0))
# Lines of 1 pixel are left out: kernels let little of them pass.
SHAPES = (*DISCS, *_of("edge", 4.0, 8.0), *_of("line_pair", 2.0, 4.0), *_of("texture", 2.0, 4.0))
