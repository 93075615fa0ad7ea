"""Simulation-based calibration: where truths rank among the samples that a model draws for them."""

__all__ = ["Ranks", "SbcCheck", "check_sbc", "random_directions", "run_sbc"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # which imports its parts where they are first used
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from invkit.calibration.uniform import Uniformity, check_uniform
from invkit.errors import InputError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Ranks:
    """Ranks of n truths for k quantities.

    Args:
        ranks: shape `(n, k)`, each from 0 to `samples`.
        samples: how many samples each truth was ranked among.
        names: of the quantities.
    """

    ranks: NDArray[np.int64]
    samples: int
    names: tuple[str, ...]

    def joined(self, other: "Ranks") -> "Ranks":
        """Return these quantities and others of the same truths.

        Raises:
            InputError: other truths, or another number of samples.
        """
        if len(self.ranks) != len(other.ranks) or self.samples != other.samples:
            raise InputError(
                f"ranks of {len(self.ranks)} truths among {self.samples} samples cannot be joined with those of "
                f"{len(other.ranks)} among {other.samples}"
            )
        return Ranks(np.hstack([self.ranks, other.ranks]), self.samples, self.names + other.names)


@dataclass(frozen=True)
class SbcCheck:
    """Whether ranks are uniform.

    Args:
        uniformity: distribution functions with their bands, one column a quantity.
        names: of the quantities.
        ks_p: p-value of the Kolmogorov-Smirnov test of each quantity for itself, `(k,)`, for independent truths.
    """

    uniformity: Uniformity
    names: tuple[str, ...]
    ks_p: Array

    @property
    def holds(self) -> bool:
        """Whether all quantities together stay inside the band of the family."""
        return self.uniformity.holds

    @property
    def failing(self) -> tuple[str, ...]:
        """The quantities that leave the band of the family."""
        return tuple(name for name, out in zip(self.names, self.uniformity.departs, strict=True) if out)

    @property
    def share_outside(self) -> float:
        """The share of quantities that leave their own band; 1 - level is expected of calibrated ones."""
        return float(self.uniformity.outside.mean())

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as JSON values; the curves are in `uniformity`."""
        return {
            "holds": self.holds,
            "quantities": len(self.names),
            "failing": list(self.failing),
            "share_outside": self.share_outside,
            "smallest_ks_p": float(self.ks_p.min()),
            "level": self.uniformity.level,
            "groups": self.uniformity.groups,
        }


def paired(truths: Tensor | ArrayLike, samples: Tensor | ArrayLike) -> tuple[Array, Array]:
    """Return truths `(n, d)` and samples `(N, n, d)` in float64; raise InputError where they do not match."""
    first, second = (
        np.asarray(data.detach().cpu() if isinstance(data, Tensor) else data, dtype=np.float64)
        for data in (truths, samples)
    )
    if first.ndim != 2 or second.ndim != 3 or second.shape[1:] != first.shape or not second.size:
        raise InputError(
            f"truths must have shape (n, d) and samples (N, n, d), got {first.shape} and {second.shape}"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise InputError("truths or samples are not finite; check the flow and the encoder that made them")
    return first, second


def random_directions(d: int, count: int, *, seed: int) -> Array:
    """Return directions that are uniform on the sphere, `(count, d)`."""
    directions = np.random.default_rng(seed).normal(size=(count, d))
    return np.asarray(directions / np.linalg.norm(directions, axis=1, keepdims=True))


def run_sbc(
    truths: Tensor | ArrayLike,
    samples: Tensor | ArrayLike,
    directions: ArrayLike | None = None,
    *,
    name: str = "code",
    seed: int = 0,
) -> Ranks:
    """Rank truths among samples: r = sum over s of 1[f(theta_s) < f(theta)] (Talts et al. 2018, arXiv 1804.06788, Algorithm 1).

    If theta ~ p(theta | z) and theta_1 ... theta_N are drawn from the same, r is uniform on 0 ... N for every f (their
    Theorem 1). Here f are the coordinates, and the projections on directions, which see what coordinates do not: a wrong
    correlation. Truths that equal samples get a random rank among them, since ranks would not be uniform otherwise.

    Args:
        truths: shape `(n, d)`.
        samples: N for each truth, `(N, n, d)`.
        directions: shape `(k, d)`; coordinates where none are given.
        name: of the quantities; they get a number each.
        seed: of the ranks among equals.

    Raises:
        InputError: shapes that do not match, or numbers that are not finite.
    """
    truth, draws = paired(truths, samples)
    if directions is not None:
        matrix = np.asarray(directions, dtype=np.float64)
        if matrix.ndim != 2 or matrix.shape[1] != truth.shape[1]:
            raise InputError(f"directions must have shape (k, {truth.shape[1]}), got {matrix.shape}")
        truth, draws = truth @ matrix.T, draws @ matrix.T
    ranks = (draws < truth).sum(axis=0)
    equal = (draws == truth).sum(axis=0)
    if equal.any():
        ranks = ranks + np.random.default_rng(seed).integers(0, equal + 1)
    return Ranks(ranks, len(draws), tuple(f"{name} {number}" for number in range(truth.shape[1])))


def check_sbc(
    ranks: Ranks, groups: Sequence[Any] | None = None, *, level: float = 0.95, seed: int = 0
) -> SbcCheck:
    """Return whether ranks are uniform by `check_uniform`, for all quantities together; and Kolmogorov-Smirnov p-values.

    Args:
        ranks: of `run_sbc`.
        groups: labels of the truths (patients). Without them truths are taken for independent.
        level: probability that a calibrated model passes.
        seed: of the resampling of groups.

    Raises:
        InputError: fewer than two truths or groups.
    """
    uniformity = check_uniform(ranks.ranks, ranks.samples, groups, level=level, seed=seed)
    fractions = ranks.ranks / ranks.samples
    p = np.array([scipy.stats.kstest(column, scipy.stats.uniform.cdf).pvalue for column in fractions.T])
    return SbcCheck(uniformity, ranks.names, p)
