"""How much spread each tolerance leaves: spread(epsilon), along one refinement of the same samples."""

__all__ = ["CURVE_SAMPLES", "CurvePoint", "curve_figures", "path_of"]

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invkit.sampling.layer import allowed_spread
from invkit.statistics.intervals import Interval, bootstrap

CURVE_SAMPLES = 8  # the first ones of an image; the curve compares tolerances, each on the same samples
ABOVE, BELOW = 4, 2  # points above and below the default epsilon
LEAST = 1e-4  # of s_Phi


@dataclass(frozen=True)
class CurvePoint:
    """What one tolerance leaves of the samples of one image.

    Args:
        epsilon: in units of s_Phi.
        refined: how many samples were tried.
        fiber_error: of those that reached epsilon, `(n,)`, units of s_Phi.
        squares: mean square over pixels of each one's difference from their mean, times n / (n - 1), `(n,)`, HU^2; none for
            fewer than two.
    """

    epsilon: float
    refined: int
    fiber_error: Tensor
    squares: Tensor


def path_of(eta: float, epsilon: float) -> tuple[float, ...]:
    """Return the tolerances of the curve, falling from eta over the default epsilon to 1e-4 s_Phi, evenly in the logarithm.

    Args:
        eta: distance between two noise realisations of one anatomy, in units of s_Phi; not below epsilon.
        epsilon: the default.
    """
    above = np.geomspace(eta, epsilon, ABOVE + 1)[:-1].tolist() if eta > epsilon else []
    below = np.geomspace(epsilon, LEAST, BELOW + 1)[1:].tolist() if epsilon > LEAST else []
    levels = [*above, epsilon, *below]
    return tuple(first for first, second in pairwise([*levels, 0.0]) if first > second)


def curve_figures(
    images: Sequence[Sequence[CurvePoint]], *, pixel_scale: float, seed: int, part: float = 1.0
) -> list[dict[str, Any]]:
    """Return the curve, one entry per tolerance, the largest first.

    `spread_hu` is pooled over the images and `None` where one of them has fewer than two samples within epsilon.
    `spread_epsilon_hu` is what the same epsilon allows at most in the `input` control, where z is the image in HU.

    Args:
        images: the points of each image, in the same order.
        pixel_scale: s_Phi of the `input` control, HU.
        seed: of the bootstrap.
        part: of the image's pixels, that the spreads are of.
    """
    return [
        {
            "epsilon": points[0].epsilon,
            "spread_hu": _spread(points, seed),
            "spread_epsilon_hu": allowed_spread(
                points[0].epsilon, pixel_scale, min(len(point.fiber_error) for point in points), part
            ),
            "fiber_error": _mean_error(points),
            "count": min(len(point.fiber_error) for point in points),
            "refined": points[0].refined,
        }
        for points in zip(*images, strict=True)
    ]


def _spread(points: Sequence[CurvePoint], seed: int) -> Interval | None:
    if any(len(point.squares) == 0 for point in points):
        return None
    groups = [index for index, point in enumerate(points) for _ in point.squares] if len(points) > 1 else None
    mean = bootstrap(torch.cat([point.squares for point in points]), groups=groups, seed=seed)
    return Interval(mean.value**0.5, mean.low**0.5, mean.high**0.5)


def _mean_error(points: Sequence[CurvePoint]) -> float | None:
    errors = torch.cat([point.fiber_error for point in points])
    return float(errors.double().square().mean().sqrt()) if len(errors) else None
