"""Are ranks uniform? Empirical distribution functions with bands that hold for all of them at once."""

__all__ = ["Uniformity", "check_uniform", "uniform_band"]

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import scipy  # which imports its parts where they are first used
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from invkit.errors import InputError

POINTS = 64  # places where a distribution function is looked at, at most
HALVINGS = 14  # of the search for the pointwise level
AT_ONCE = 128  # resamplings

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Uniformity:
    """What `check_uniform` found for k quantities at K places.

    Args:
        position: where the distribution functions are compared, `(K,)`, fractions of the ranks.
        difference: empirical minus uniform distribution function, `(K, k)`.
        low: lower edge of the band for each quantity by itself, `(K, k)`.
        high: its upper edge.
        family_low: lower edge of the band that all k quantities respect together.
        family_high: its upper edge.
        outside: which quantities leave their own band, `(k,)`; of calibrated ones `1 - level` do so.
        departs: which leave the band of the family, `(k,)`.
        level: probability of both bands.
        groups: how many independent groups (patients) the bands count; the number of truths without labels.
    """

    position: Array
    difference: Array
    low: Array
    high: Array
    family_low: Array
    family_high: Array
    outside: NDArray[np.bool_]
    departs: NDArray[np.bool_]
    level: float
    groups: int

    @property
    def holds(self) -> bool:
        """Whether no quantity leaves the band of the family."""
        return not bool(self.departs.any())

    @property
    def largest(self) -> float:
        """The largest difference, in units of the family's band where it is; above 1 it leaves the band."""
        edge = np.where(self.difference > 0, self.family_high, self.family_low)
        off = self.difference != 0
        ratios = np.divide(self.difference, edge, out=np.full_like(self.difference, np.inf), where=edge != 0)
        return float(ratios[off].max(initial=0.0))


def check_uniform(
    ranks: ArrayLike,
    samples: int,
    groups: Sequence[Any] | None = None,
    *,
    level: float = 0.95,
    seed: int = 0,
    draws: int = 2000,
) -> Uniformity:
    """Compare the distribution of ranks with the uniform one, at all ranks and for all quantities together.

    The count of ranks below j is Binomial(n, j / (samples + 1)) if each of the samples + 1 ranks is as likely. The band is
    made of pointwise intervals whose level is such that all of them hold together (Saeilynoja, Buerkner, Vehtari 2022,
    Stat Comput 32:32), and for k quantities at 1 - (1 - level) / k (Bonferroni).

    Patches of one patient are not independent. With labels the width of the band comes from a multiplier bootstrap instead
    (van der Vaart, Wellner 1996): the deviations of each group keep together and get a random sign, which also
    keeps the dependence between quantities. For few groups it is widened as Student's t is; it is never narrower than the
    band of independent truths.

    Args:
        ranks: shape `(n, k)`, each from 0 to `samples`.
        samples: how many samples each truth was ranked among.
        groups: labels of the n truths (patients); at least two.
        level: probability that calibrated ranks stay inside.
        seed: of the signs.
        draws: number of resamplings.

    Raises:
        InputError: ranks of another shape or outside 0 to `samples`, too few, or an impossible level.
    """
    table = np.asarray(ranks)
    if table.ndim != 2 or min(table.shape) < 1 or len(table) < 2:
        raise InputError(f"ranks must have shape (n, k) with n of at least 2, got {table.shape}")
    if samples < 1 or table.min() < 0 or table.max() > samples:
        raise InputError(
            f"ranks among {samples} samples lie from 0 to {samples}, got {table.min()} to {table.max()}"
        )
    n, k = table.shape
    position, *single = uniform_band(n, samples, level)
    _, *family = uniform_band(n, samples, 1 - (1 - level) / k)
    low, high, family_low, family_high = (np.repeat(edge[:, None], k, axis=1) for edge in (*single, *family))
    places = np.rint(position * (samples + 1))
    difference = (table[None] < places[:, None, None]).mean(axis=1) - position[:, None]
    count = n
    if groups is not None:
        deviation = _by_group((table[None] < places[:, None, None]) - position[:, None, None], groups)
        count = len(deviation)
        alone, together = _signed(deviation / n, position, level, seed, draws)
        scale = np.sqrt(position * (1 - position))[:, None]
        low, high = np.minimum(low, -alone * scale), np.maximum(high, alone * scale)
        family_low = np.minimum(family_low, -together * scale)
        family_high = np.maximum(family_high, together * scale)
    outside = ((difference < low) | (difference > high)).any(axis=0)
    departs = ((difference < family_low) | (difference > family_high)).any(axis=0)
    return Uniformity(
        position, difference, low, high, family_low, family_high, outside, departs, level, count
    )


def _by_group(deviation: Array, groups: Sequence[Any]) -> Array:
    """Return the sums over each group of what has shape `(K, n, k)`: `(G, K, k)`."""
    if len(groups) != deviation.shape[1]:
        raise InputError(f"got {len(groups)} group labels for {deviation.shape[1]} truths; give one to each")
    rows: dict[Any, list[int]] = {}
    for row, label in enumerate(groups):
        rows.setdefault(label, []).append(row)
    if len(rows) < 2:
        raise InputError("ranks of one patient say nothing about others; give truths of at least 2 patients")
    return np.stack([deviation[:, members].sum(axis=1) for members in rows.values()])


def _signed(deviation: Array, position: Array, level: float, seed: int, draws: int) -> tuple[Array, Array]:
    """Return half-widths in units of sqrt(z (1 - z)), `(k,)`: for each quantity alone, and for all of them together.

    Those for all are those for each times one factor, so that one quantity that varies much does not hide the others.

    Args:
        deviation: of each group, `(G, K, k)`; they add up to the difference of the distribution functions.
        position: z, `(K,)`.
        level: of the band.
        seed: of the signs.
        draws: resamplings.
    """
    groups, points, k = deviation.shape
    # Without the mean, or what departs would widen its own band, and those of all others.
    centred = deviation - deviation.mean(axis=0)
    scaled = (centred / np.sqrt(position * (1 - position))[:, None]).reshape(groups, -1)
    rng = np.random.default_rng(seed)
    largest = []
    for start in range(0, draws, AT_ONCE):
        signs = rng.choice([-1.0, 1.0], size=(min(AT_ONCE, draws - start), groups))
        largest.append(np.abs(signs @ scaled).reshape(-1, points, k).max(axis=1))
    maxima = np.concatenate(largest)
    alone = np.quantile(maxima, level, axis=0)
    # From few groups some quantities look too steady by chance.
    unit = np.maximum(alone, np.median(alone))
    together = np.quantile((maxima / unit).max(axis=1), level) * unit
    return alone * _few(groups, level, 1), together * _few(groups, level, k)


def _few(groups: int, level: float, k: int) -> float:
    """Return how much farther k intervals of few groups reach, by Student's t with a degree less than there are groups."""
    tail = 1 - (1 - level) / (2 * k)
    return float(scipy.stats.t.ppf(tail, groups - 1) / scipy.stats.norm.ppf(tail))


@lru_cache(maxsize=64)
def uniform_band(n: int, samples: int, level: float = 0.95) -> tuple[Array, Array, Array]:
    """Return places z, and how far below and above z the distribution function of n uniform ranks may lie, `(K,)` each.

    All of it stays inside with a probability of at least `level`: the pointwise level gamma is the largest for which this
    is so, found by bisection, and the probability is computed exactly by going from place to place: given m ranks below
    z_i, those up to z_(i+1) are Binomial(n - m, (z_(i+1) - z_i) / (1 - z_i)) (Saeilynoja et al. 2022).

    Args:
        n: number of ranks.
        samples: ranks lie from 0 to this.
        level: in (0, 1).

    Raises:
        InputError: no ranks or samples, or an impossible level.
    """
    if n < 1 or samples < 1 or not 0 < level < 1:
        raise InputError(
            f"a band needs ranks, samples and a level in (0, 1), got n={n}, samples={samples}, level={level}"
        )
    inner = np.unique(np.rint(np.linspace(0, samples + 1, min(POINTS, n, samples) + 2)))[1:-1]
    position = inner / (samples + 1)
    miss = 1 - level
    narrow, wide = miss, miss / len(position)  # gamma: of one place alone, and by Bonferroni
    for _ in range(HALVINGS):
        middle = float(np.sqrt(narrow * wide))
        if _inside(n, position, *_pointwise(n, position, middle)) >= level:
            wide = middle
        else:
            narrow = middle
    low, high = _pointwise(n, position, wide)
    result = position, low / n - position, high / n - position
    for array in result:
        array.flags.writeable = False  # it is cached
    return result


def _pointwise(n: int, position: Array, gamma: float) -> tuple[Array, Array]:
    """Return the counts between which each place alone keeps its count with probability 1 - gamma."""
    return scipy.stats.binom.ppf(gamma / 2, n, position), scipy.stats.binom.ppf(1 - gamma / 2, n, position)


def _inside(n: int, position: Array, low: Array, high: Array) -> float:
    """Return the probability that the counts of n uniform ranks lie from low to high at all places."""
    log_factorial = gammaln(np.arange(n + 1) + 1.0)
    counts, chance, last = np.array([0]), np.array([1.0]), 0.0
    for z, least, most in zip(position, low, high, strict=True):
        share = (z - last) / (1 - last)
        after = np.arange(int(least), int(most) + 1)
        new = after[None, :] - counts[:, None]
        left = n - counts[:, None]
        legal = np.clip(new, 0, left)
        log_pmf = log_factorial[left] - log_factorial[legal] - log_factorial[left - legal]
        log_pmf = log_pmf + legal * np.log(share) + (left - legal) * np.log1p(-share)
        chance = chance @ np.where(new == legal, np.exp(log_pmf), 0.0)
        counts, last = after, z
    return float(chance.sum())
