"""A layer at one image, with its tolerance: S, windows, marks, the frame, and the noise of the image."""

__all__ = ["AROUND", "Crops", "TolerancedLayer"]

import math
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from invkit.fiber.distance import parts_of
from invkit.fiber.tangent import Tangent
from invkit.noise.covariance import NoiseCovariance
from invkit.noise.within import NoiseWithin
from invkit.split.split import Split
from invkit.tolerance.frame import Frame, frame_of
from invkit.tolerance.marks import Marks, marks_of
from invkit.tolerance.unit import Parts, unit_of
from invkit.tolerance.windows import Windows
from invkit.training.seeds import generator

AROUND = 96  # pixels on a side of what is cut out around a structure
STEP = 32  # of sides and corners, which networks that halve images a few times need


@dataclass(frozen=True)
class TolerancedLayer:
    """A layer at an image.

    Args:
        split: the layer.
        x: the image, `(1, 1, H, W)`, HU.
        f_x: f(x), likewise.
        covariance: of the image's noise.
        windows: of the layer, with S.
        marks: named tolerances.
        frame: how far padding reaches.
        tangent: the derivative of Phi, traced once for a size of images.
        origin: row and column of the image in a larger one that it was cut out of.
    """

    split: Split
    x: Tensor
    f_x: Tensor
    covariance: NoiseCovariance
    windows: Windows
    marks: Marks
    frame: Frame
    tangent: Tangent = field(repr=False)
    origin: tuple[int, int] = (0, 0)

    @classmethod
    def of(
        cls,
        split: Split,
        x: Tensor,
        f_x: Tensor,
        covariance: NoiseCovariance,
        *,
        seed: int,
        tangent: Tangent,
        inner: tuple[slice, slice] | None = None,
        origin: tuple[int, int] = (0, 0),
    ) -> Self:
        """Measure S, marks and frame of a layer at an image; see the class.

        Args:
            split: the layer.
            x: the image, `(1, 1, H, W)`, HU.
            f_x: f(x), likewise.
            covariance: of the image's noise.
            seed: of every draw.
            tangent: the derivative of Phi.
            inner: rows and columns outside of which nothing is to vary, of an image cut out of a larger one.
            origin: row and column of the image in that.
        """
        numbers = generator(seed, "tolerance")

        def noise(count: int) -> Tensor:
            return covariance.draws(count, numbers)

        unit = unit_of(split, f_x, noise)
        windows = Windows.of(split, x, unit)
        marks = marks_of(split, x, f_x, noise, windows)
        frame = frame_of(split, x, f_x, windows, marks.tolerance, marks.hu_at_output, inner)
        return cls(split, x, f_x, covariance, windows, marks, frame, tangent, origin)

    @property
    def tolerance(self) -> float:
        """The headline's, in units of S."""
        return self.marks.tolerance

    @property
    def prior(self) -> NoiseCovariance:
        """The noise of what may vary: of the whole image, or within the part of one that was cut out of a larger one."""
        inner, size = self.frame.inner, (self.x.shape[-2], self.x.shape[-1])
        if inner is None:
            return self.covariance
        whole = self.covariance
        return NoiseWithin(
            whole.deviation[inner],
            power=whole.power,
            floor=whole.floor,
            source=whole.source,
            place=inner,
            around=size,
        )

    @property
    def interior(self) -> tuple[slice, slice]:
        """Rows and columns within the frame, in the image that this one was cut out of."""
        rows, columns = (
            slice(first + part.start, first + part.stop)
            for first, part in zip(self.origin, self.frame.interior, strict=True)
        )
        return rows, columns

    def at(self, tolerance: float, frame: Frame | None = None) -> "TolerancedLayer":
        """Return the same layer at another tolerance, in units of S, and within another frame."""
        values = {**self.marks.values, "given": tolerance}
        return replace(self, marks=replace(self.marks, values=values, at="given"), frame=frame or self.frame)

    @property
    def window(self) -> int | None:
        """Side of its smallest windows in pixels; `None` where all of z is one window."""
        pairs = zip(self.windows.sides, self.split.grid(self.x), strict=True)
        return min((side * (grid.stride or 1) for side, grid in pairs if side is not None), default=None)

    def beside(self, layer: "TolerancedLayer") -> "TolerancedLayer":
        """Return this layer, the identity, at the tolerance of another one, within its frame and in windows of its size.

        In smaller windows than the other layer has, a small structure would count for more.
        """
        side = layer.window
        sides = (None if side is None else min(side, *self.x.shape[-2:]),)
        return replace(self.at(layer.tolerance, layer.frame), windows=replace(self.windows, sides=sides))

    def crops(self, centres: Tensor, side: int = AROUND) -> "Crops":
        """Return what lies around places of the image; all of it where the layer has no frame, for then it sees all of it.

        Args:
            centres: rows and columns, `(N, 2)`.
            side: pixels; the image's own where that is less.
        """
        grids = self.split.grid(self.x)
        size = (self.x.shape[-2], self.x.shape[-1])
        step = math.lcm(STEP, self.split.denoiser.size_multiple, *(grid.stride or 1 for grid in grids))
        if self.frame.pixels is None:
            sides, corners = size, torch.zeros_like(centres)
        else:
            wanted = step * math.ceil(side / step)
            sides = (min(wanted, size[0]), min(wanted, size[1]))
            last = torch.tensor([size[0] - sides[0], size[1] - sides[1]])
            corners = torch.minimum((centres - torch.tensor(sides) // 2).clamp(min=0), last) // step * step
        images = torch.cat([self.x[..., r : r + sides[0], c : c + sides[1]] for r, c in corners.tolist()])
        shapes = [part.shape for part in parts_of(self.split.phi(images[:1]))]
        units: Parts = tuple(
            torch.cat([_cut(s, shape, grid.stride, corner) for corner in corners.tolist()])
            for s, shape, grid in zip(self.windows.unit.s, shapes, grids, strict=True)
        )
        deviations = torch.stack(
            [self.covariance.deviation[r : r + sides[0], c : c + sides[1]] for r, c in corners.tolist()]
        )
        return Crops(
            images,
            centres - corners,
            corners,
            replace(self.windows, unit=replace(self.windows.unit, s=units)),
            self.covariance.cropped(deviations[:, None]),
        )


@dataclass(frozen=True)
class Crops:
    """Parts of an image around places.

    Args:
        images: `(N, 1, h, w)`, HU.
        centres: of the places in them, rows and columns, `(N, 2)`.
        corners: of the parts in the image, likewise.
        windows: of the layer, with S of each.
        covariance: of the noise of each.
    """

    images: Tensor
    centres: Tensor
    corners: Tensor
    windows: Windows
    covariance: NoiseCovariance

    def placed(self, changes: Tensor, x: Tensor) -> Tensor:
        """Return changes of the parts, `(N, 1, h, w)`, as changes of the image, `(N, 1, H, W)`."""
        whole = changes.new_zeros(len(changes), *x.shape[1:])
        rows, columns = changes.shape[-2:]
        for one, change, (row, column) in zip(whole, changes, self.corners.tolist(), strict=True):
            one[:, row : row + rows, column : column + columns] = change
        return whole


def _cut(s: Tensor, shape: torch.Size, stride: int | None, corner: list[int]) -> Tensor:
    if stride is None:
        return s
    row, column = (place // stride for place in corner)
    return s[..., row : row + shape[-2], column : column + shape[-1]]
