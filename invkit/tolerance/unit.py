"""S, the unit of distances in a layer: what a repeat scan changes there, position by position."""

__all__ = ["DRAWS", "FLOOR", "LOCAL", "Unit", "rounding_of", "unit_of"]

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from invkit.denoisers.formats.opaque import Opaque
from invkit.denoisers.loaded import LoadedDenoiser
from invkit.fiber.distance import parts_of
from invkit.split.split import Split
from invkit.training.precision import in_float64

DRAWS = 32
LOCAL = 9  # positions on a side, over which the variance of a channel is averaged
FLOOR = 100.0  # times the rounding of a float32 evaluation
Parts = tuple[Tensor, ...]


@dataclass(frozen=True)
class Unit:
    """The local root mean square of Phi(f(x) + n1) - Phi(f(x) + n2), n1 and n2 noise of the image's dose.

    Args:
        s: one tensor for each of z, `(1, ...)`, in z's own unit; nowhere below `FLOOR` times the rounding.
        rounding: root mean square error of z as float32 computes it, in z's own unit, one for each tensor of z.
        floored: the part of all elements where the floor counts.
    """

    s: Parts
    rounding: tuple[float, ...]
    floored: float


@torch.no_grad()
def unit_of(split: Split, f_x: Tensor, noise: Callable[[int], Tensor], *, draws: int = DRAWS) -> Unit:
    """Return the unit of a layer at an image.

    The difference of two scans has twice the variance of one. The variance of every element is taken over draws and averaged over
    the positions around it in its channel, where z has a grid.

    Args:
        split: the layer.
        f_x: f(x), `(1, 1, H, W)`, HU: the image without its noise, as far as it is known.
        noise: gives noise of the image's dose, `(n, 1, H, W)`, HU, anew at every call.
        draws: how many scans; at least 2.
    """
    count = 0
    sums: list[Tensor] = []
    squares: list[Tensor] = []
    while count < draws:
        n = min(4, draws - count)
        parts = parts_of(split.phi(f_x + noise(n)))
        if not sums:
            # Moments about the first scan, so that nothing cancels.
            origin = tuple(in_float64(part[:1]) for part in parts)
            sums = [torch.zeros_like(part) for part in origin]
            squares = [torch.zeros_like(part) for part in origin]
        for k, (part, first) in enumerate(zip(parts, origin, strict=True)):
            for scan in part.split(1):  # float64 of one at a time
                off = in_float64(scan) - first
                sums[k] += off
                squares[k].addcmul_(off, off)
        count += n
    rounding = rounding_of(split, f_x)
    found, floored, elements = [], 0, 0
    for total, square, error in zip(sums, squares, rounding, strict=True):
        variance = 2 * ((square - total.square() / count) / (count - 1)).clamp(min=0)
        s = _local(variance).sqrt()
        low = s < FLOOR * error
        floored, elements = floored + int(low.sum()), elements + low.numel()
        # A layer that rounds nothing and never changes has no unit of its own; any will do.
        found.append(s.clamp(min=FLOOR * error or 1.0).float().to(f_x.device))
    return Unit(tuple(found), rounding, floored / max(1, elements))


@torch.no_grad()
def rounding_of(split: Split, x: Tensor) -> tuple[float, ...]:
    """Return the root mean square error of z as float32 computes it, one for each tensor of z, held against float64."""
    if split.is_control or isinstance(split.denoiser.network, Opaque):
        # What cannot be run in float64 rounds its result at least.
        return tuple(float(part.abs().max()) * 2.0**-25 for part in parts_of(split.phi(x)))
    denoiser = split.denoiser
    exact = LoadedDenoiser(
        denoiser.spec,
        copy.deepcopy(denoiser.network).cpu().double(),  # not every device has float64
        weights_tag=denoiser.weights_tag,
        preprocessing=denoiser.preprocessing,
    )
    other = Split(exact, split.layer)
    pairs = zip(parts_of(split.phi(x)), parts_of(other.phi(x.cpu().double())), strict=True)
    return tuple(float((part.cpu().double() - truth).square().mean().sqrt()) for part, truth in pairs)


def _local(variance: Tensor) -> Tensor:
    """Return a variance averaged over positions nearby, `(1, ...)`; over all elements where z has no positions."""
    if variance.dim() != 4:
        return variance.mean().expand_as(variance)
    return avg_pool2d(variance, LOCAL, stride=1, padding=LOCAL // 2, count_include_pad=False)
