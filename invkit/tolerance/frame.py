"""The frame of an image in which padding reaches a layer: measured, by what other surroundings change."""

__all__ = ["LEAST_INTERIOR", "PART", "Frame", "frame_of"]

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from invkit.errors import DenoiserError
from invkit.fiber.distance import parts_of
from invkit.split.split import Split
from invkit.tolerance.windows import Windows

PART = 0.1  # of the tolerance, that surroundings may change beyond the frame
LEAST_INTERIOR = 32  # pixels on a side
MARGIN = 64  # pixels of surroundings
STEP = 32  # pixels: sizes grow by as much, which networks that halve them a few times need
AIR = -1000.0  # HU


@dataclass(frozen=True)
class Frame:
    """How far the surroundings of an image reach into it.

    Args:
        pixels: width of the frame; `None` where surroundings change z or f everywhere, as for attention or norms over the image,
            or where the network takes images of one size only.
        size: of the image, `(H, W)`.
        inner: rows and columns outside of which nothing varies, of an image cut out of a larger one; all of it by default.
    """

    pixels: int | None
    size: tuple[int, int]
    inner: tuple[slice, slice] | None = None

    @property
    def interior(self) -> tuple[slice, slice]:
        """Rows and columns within the frame, where the image may vary; the whole image where there is no bound."""
        width = self.pixels or 0
        inner = self.inner or (slice(0, self.size[0]), slice(0, self.size[1]))
        rows, columns = (
            slice(max(width, part.start), max(width, min(part.stop, length - width)))
            for part, length in zip(inner, self.size, strict=True)
        )
        return rows, columns

    @property
    def enough(self) -> bool:
        """Whether the interior is large enough for a spread."""
        sides = [int(part.stop - part.start) for part in self.interior]
        return min(sides) >= LEAST_INTERIOR

    @property
    def needed(self) -> int:
        """Side of an image whose interior would be large enough, pixels."""
        return LEAST_INTERIOR + 2 * (self.pixels or 0)


@torch.no_grad()
def frame_of(
    split: Split,
    x: Tensor,
    f_x: Tensor,
    windows: Windows,
    tolerance: float,
    f_unit: float,
    inner: tuple[slice, slice] | None = None,
) -> Frame:
    """Return how far other surroundings of x move z or f by more than a tenth of the tolerance.

    x is set into surroundings of three kinds: itself mirrored, its border carried on, and air. What they change is the root mean
    square over channels at each position, in units of S.

    Args:
        split: the layer.
        x: the image, `(1, 1, H, W)`, HU.
        f_x: f(x), likewise.
        windows: of the layer, with S.
        tolerance: in units of S.
        f_unit: what the tolerance is at the output, HU.
        inner: rows and columns outside of which nothing will vary.
    """
    try:
        depth = _measured(split, x, f_x, windows, tolerance, f_unit)
    except DenoiserError:
        depth = None  # the network takes images of one size only
    height, width = x.shape[-2:]
    if depth is not None and 2 * depth >= min(height, width) - 1:
        depth = None
    return Frame(depth, (height, width), inner)


def _measured(
    split: Split, x: Tensor, f_x: Tensor, windows: Windows, tolerance: float, f_unit: float
) -> int | None:
    """Return how far surroundings reach, pixels; `None` where z has no grid."""
    height, width = x.shape[-2:]
    depth = 0
    z, grids = parts_of(split.phi(x)), split.grid(x)
    for around, margin in _surroundings(x, split.denoiser.size_multiple):
        inside = (slice(margin, margin + height), slice(margin, margin + width))
        changed = (split.denoiser(around)[(..., *inside)] - f_x)[0, 0].abs() / f_unit
        depth = max(depth, _depth(changed, PART, 1))
        for part, other, s, grid in zip(z, parts_of(split.phi(around)), windows.unit.s, grids, strict=True):
            if grid.stride is None:
                return None
            first = margin // grid.stride
            rows, columns = part.shape[-2:]
            cut = other[..., first : first + rows, first : first + columns]
            moved = ((cut - part) / s)[0].square().mean(0).sqrt()
            depth = max(depth, _depth(moved, PART * tolerance, grid.stride))
    return depth


def _depth(changed: Tensor, limit: float, stride: int) -> int:
    """Return how far from the border a map goes beyond a limit, pixels."""
    beyond = changed > limit
    rows, columns = beyond.shape
    if not bool(beyond.any()):
        return 0
    row = torch.arange(rows, device=beyond.device)
    column = torch.arange(columns, device=beyond.device)
    near = torch.minimum(
        torch.minimum(row, rows - 1 - row)[:, None], torch.minimum(column, columns - 1 - column)[None, :]
    )
    return (int(near[beyond].max()) + 1) * stride


def _surroundings(x: Tensor, multiple: int) -> Iterator[tuple[Tensor, int]]:
    """Yield x in larger images, and how far from their border it begins."""
    step = math.lcm(STEP, multiple)
    margin = min(MARGIN, *(side - 1 for side in x.shape[-2:])) // step * step
    if margin > 0:
        yield pad(x, [margin] * 4, mode="reflect"), margin
    margin = step * math.ceil(MARGIN / step)
    yield pad(x, [margin] * 4, mode="replicate"), margin
    yield pad(x, [margin] * 4, value=AIR), margin
