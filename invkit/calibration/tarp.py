"""Coverage of regions around random points: does the truth fall into them as often as it should?"""

__all__ = ["Coverage", "TarpCheck", "check_tarp", "run_tarp"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from invkit.calibration.sbc import paired
from invkit.calibration.uniform import Uniformity, check_uniform
from invkit.errors import InputError
from invkit.statistics.intervals import Interval, bootstrap

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Coverage:
    """How many samples are nearer to the random point than the truth is.

    Args:
        nearer: shape `(n,)`, from 0 to `samples`.
        samples: N.
    """

    nearer: NDArray[np.int64]
    samples: int

    def expected(self, credibility: ArrayLike) -> Array:
        """Return the expected coverage of regions of this credibility: the share of truths that lie inside.

        A region around the random point that holds the share alpha of the samples holds the truth where less than that
        share is nearer: ECP(alpha) = mean of 1[f < alpha], f = nearer / N.
        """
        alpha = np.asarray(credibility, dtype=np.float64)
        return np.asarray((self.nearer / self.samples < alpha[..., None]).mean(axis=-1))


@dataclass(frozen=True)
class TarpCheck:
    """Whether coverage is what it should be.

    Args:
        area: between expected coverage and credibility, over credibilities of 0.5 and more; 0 where calibrated, above 0
            where the samples are too wide, below 0 where they are too narrow.
        bias: the same area over all credibilities; not 0 where samples lie to one side of the truth.
        curve: expected coverage minus credibility with its band.
    """

    area: Interval
    bias: Interval
    curve: Uniformity

    @property
    def holds(self) -> bool:
        """Whether 0 lies within the interval of the area."""
        return self.area.low <= 0 <= self.area.high

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as JSON values; the points of the curve are in `curve`."""
        return {
            "holds": self.holds,
            "area": self.area.to_json(),
            "bias": self.bias.to_json(),
            "curve_inside": self.curve.holds,
            "level": self.curve.level,
        }


def run_tarp(
    truths: Tensor | ArrayLike,
    samples: Tensor | ArrayLike,
    references: ArrayLike | None = None,
    *,
    normalise: bool = True,
    seed: int = 0,
) -> Coverage:
    """Count samples that are nearer to a random point than the truth is (Lemos et al. 2023, arXiv 2302.03026).

    f_i = 1/N sum over s of 1[d(theta_is, r_i) < d(theta_i, r_i)], with d the Euclidean distance and a random point r_i for
    each truth. f is uniform where the samples are of the right distribution, whatever distribution r has; f that is uniform
    for every r(z) also proves it (their main theorem). With r that does not depend on z, as here, it is a strong test, no proof.

    Args:
        truths: shape `(n, d)`.
        samples: N for each truth, `(N, n, d)`.
        references: random points, `(n, d)`; uniform in the box that the truths span where none are given.
        normalise: scale the box of the truths to a cube first, so that every coordinate counts.
        seed: of the random points.

    Raises:
        InputError: shapes that do not match, or numbers that are not finite.
    """
    truth, draws = paired(truths, samples)
    low, high = truth.min(axis=0), truth.max(axis=0)
    if references is None:
        points = np.random.default_rng(seed).uniform(low, high, size=truth.shape)
    else:
        points = np.asarray(references, dtype=np.float64)
    if points.shape != truth.shape:
        raise InputError(f"there must be one random point per truth, {truth.shape}, got {points.shape}")
    if normalise:
        width = high - low + 1e-10
        truth, draws, points = ((data - low) / width for data in (truth, draws, points))
    to_truth = np.square(truth - points).sum(axis=-1)
    nearer = np.array([np.square(one - points).sum(axis=-1) < to_truth for one in draws]).sum(axis=0)
    return Coverage(nearer, len(draws))


def check_tarp(
    coverage: Coverage,
    groups: Sequence[Any] | None = None,
    *,
    level: float = 0.95,
    seed: int = 0,
    draws: int = 2000,
) -> TarpCheck:
    """Return the area between expected coverage and credibility, with its bootstrap interval over truths or groups.

    The area over [1/2, 1] is the mean of 5/8 - max(f_i, 1/2) over truths: it is the integral of 1[f_i < alpha] - alpha. f is
    taken at the middle of its step, (nearer + 1/2) / (N + 1), which leaves no bias of order 1 / N. An area can vanish where
    the curve does not, so the curve stands beside it with the band of `check_uniform`.

    Args:
        coverage: of `run_tarp`.
        groups: labels of the truths (patients), resampled as wholes.
        level: of interval and band.
        seed: of the resampling.
        draws: bootstrap samples.

    Raises:
        InputError: fewer than two truths or groups.
    """
    middle = (coverage.nearer + 0.5) / (coverage.samples + 1)
    area, bias = (
        bootstrap(terms, groups=groups, seed=seed, draws=draws, level=level)
        for terms in (0.625 - np.maximum(middle, 0.5), 0.5 - middle)
    )
    curve = check_uniform(coverage.nearer[:, None], coverage.samples, groups, level=level, seed=seed)
    return TarpCheck(area, bias, curve)
