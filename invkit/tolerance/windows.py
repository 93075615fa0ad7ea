"""The distance of two activations: the largest over windows of their root mean square difference in units of a repeat scan."""

__all__ = ["LARGEST", "LEAST", "Windows", "receptive_field"]

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from invkit.fiber.distance import Activation, parts_of
from invkit.fiber.metric import Metric
from invkit.split.split import Split
from invkit.tolerance.unit import Parts, Unit
from invkit.training.precision import in_float64, sum_in_float64

LEAST = 8  # positions on a side
LARGEST = 64  # pixels on a side
OF_LARGEST = 1e-3  # of the largest gradient, below which a pixel is not seen


@dataclass(frozen=True)
class Windows:
    """Windows of z, half overlapping; a tensor of z without a grid is one window.

    Args:
        sides: positions on a side of the windows, one for each tensor of z; `None` where it is one window.
        unit: S.
    """

    sides: tuple[int | None, ...]
    unit: Unit

    @classmethod
    def of(cls, split: Split, x: Tensor, unit: Unit) -> "Windows":
        """Return the windows of a layer for an image `(1, 1, H, W)`: as large as the receptive field that is measured there."""
        field = receptive_field(split, x)
        sides: list[int | None] = []
        for grid in split.grid(x):
            if grid.stride is None:
                sides.append(None)
                continue
            positions = math.ceil(min(field, LARGEST) / grid.stride)
            sides.append(min(max(LEAST, positions), *grid.shape[-2:]))
        return cls(tuple(sides), unit)

    @property
    def metric(self) -> Metric:
        """The same distance, for refinement."""
        return Metric(self.largest, tuple(1 / s for s in self.unit.s))

    def scaled(self, difference: Activation) -> Parts:
        """Return a difference of activations `(N, ...)` in units of S."""
        return tuple(part / s for part, s in zip(parts_of(difference), self.unit.s, strict=True))

    def difference(self, a: Activation, b: Activation) -> Parts:
        """Return a - b in units of S, for N activations and one or N others."""
        pairs = zip(parts_of(a), parts_of(b), strict=True)
        return self.scaled(tuple(one - other for one, other in pairs))

    def distance(self, a: Activation, b: Activation) -> Tensor:
        """Return the largest root mean square difference over all windows, in units of S, `(N,)`, float64."""
        return self.largest(self.difference(a, b))

    def largest(self, scaled: Parts) -> Tensor:
        """Return the same of a difference that is in units of S already."""
        rows = [
            self.of_windows(part, side).flatten(1).amax(1)
            for part, side in zip(scaled, self.sides, strict=True)
        ]
        return torch.stack(rows).amax(0)

    def spread(self, values: Parts) -> Parts:
        """Return what weighs the square of every element of z, for the sum over windows of a value times the mean square there.

        Args:
            values: of the windows of each tensor of z, as `of_windows` orders them, `(N, rows, columns)`.

        Returns:
            One tensor for each of z, of one channel, `(N, 1, ...)`.
        """
        found = []
        for s, side, value in zip(self.unit.s, self.sides, values, strict=True):
            if side is None:
                found.append(value.view(-1, *[1] * (s.dim() - 1)) / s[0].numel())
                continue
            rows, columns = (_covered(length, side).to(value) for length in s.shape[-2:])
            found.append((rows.T @ value @ columns / (s.shape[1] * side**2))[:, None])
        return tuple(found)

    def elements(self) -> int:
        """Return how many numbers the smallest window holds."""
        counts = []
        for s, side in zip(self.unit.s, self.sides, strict=True):
            counts.append(s[0].numel() if side is None else s.shape[1] * side * side)
        return min(counts)

    @staticmethod
    def of_windows(scaled: Tensor, side: int | None) -> Tensor:
        """Return the root mean square of every window, `(N, rows, columns)`; `(N, 1, 1)` where there is one."""
        if side is None:
            return in_float64(scaled.flatten(1)).square().mean(1).sqrt()[:, None, None]
        power = sum_in_float64(scaled.square(), 1) / scaled.shape[1]
        rows, columns = (starts(length, side) for length in power.shape[1:])
        total = torch.nn.functional.pad(power.cumsum(1).cumsum(2), (1, 0, 1, 0))
        top, left = torch.tensor(rows), torch.tensor(columns)
        corner = [
            total[:, r[:, None], c[None, :]]
            for r, c in ((top, left), (top, left + side), (top + side, left), (top + side, left + side))
        ]
        return ((corner[0] - corner[1] - corner[2] + corner[3]).clamp(min=0) / side**2).sqrt()


def starts(length: int, side: int) -> Sequence[int]:
    """Return where windows begin, half overlapping, the last one flush with the end."""
    return sorted({*range(0, length - side + 1, max(1, side // 2)), length - side})


def _covered(length: int, side: int) -> Tensor:
    """Return which positions each window covers, `(windows, length)`, 0 or 1."""
    first = torch.tensor(starts(length, side))[:, None]
    position = torch.arange(length)
    return ((position >= first) & (position < first + side)).double()


@torch.enable_grad()
def receptive_field(split: Split, x: Tensor) -> int:
    """Return the side in pixels of the square of the image that one position in the middle of z sees, as it is at x.

    Args:
        split: the layer.
        x: an image, `(1, 1, H, W)`, HU.
    """
    at = x.detach().clone().requires_grad_()
    side = 1
    for part in parts_of(split.phi_grad(at)):
        if part.dim() != 4 or not part.requires_grad:
            return max(x.shape[-2:])
        rows, columns = part.shape[-2:]
        # The sum of squares about the middle, so that signs of channels do not cancel.
        middle = part[0, :, rows // 2, columns // 2]
        seen = torch.zeros_like(x)
        for weights in _signs(len(middle)).to(middle):
            (gradient,) = torch.autograd.grad((middle * weights).sum(), at, retain_graph=True)
            seen = torch.maximum(seen, gradient.abs())
        inside = (seen[0, 0] > OF_LARGEST * seen.max()).nonzero()
        if len(inside):
            extent = inside.amax(0) - inside.amin(0) + 1
            side = max(side, int(extent.max()))
    return side


def _signs(count: int) -> Tensor:
    """Return a few ways to add channels up, `(4, count)`: what cancels in one does not in all."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 2, (4, count), generator=generator).float() * 2 - 1
