"""Uncertainty of measured figures: bootstrap intervals over images or patients, and paired differences."""

__all__ = ["Interval", "bootstrap", "number", "percent", "predicted", "resampling_weights", "states_interval"]

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit
from torch import Tensor

from invkit.errors import InputError

Values = Tensor | ArrayLike
Statistic = Callable[..., Any]
FEW = 20  # values


def number(value: float, decimals: int | None = None) -> str:
    """Return a figure in words: three significant digits, or so many decimals; no exponent below a million.

    Example:
        >>> number(41.234), number(0.01234), number(12345.6), number(999.7), number(2.0, 1)
        ('41.2', '0.0123', '12,346', '1,000', '2.0')
    """
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else ("infinite" if value > 0 else "minus infinite")
    if decimals is not None and abs(value) < 1e6:
        return f"{value:,.{decimals}f}"
    if 999.5 <= abs(value) < 1e6:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def percent(share: float) -> str:
    """Return a share of 1 in per cent.

    Example:
        >>> percent(0.5), percent(0.0123), percent(1.1), percent(32.0)
        ('50 %', '1.23 %', '110 %', '3,200 %')
    """
    return f"{number(100 * share)} %"


def _decimals(value: float, width: float) -> int:
    """Return the decimals that show one to two digits of an interval's width, at most six of the value."""
    if not width > 0:
        return 0 if value == 0 else min(6, max(0, 2 - math.floor(math.log10(abs(value)))))
    largest = 5 - math.floor(math.log10(abs(value))) if value else 6
    return min(6, max(0, min(largest, math.ceil(-math.log10(width / 7)))))


@dataclass(frozen=True)
class Interval:
    """A figure with its confidence interval. Bounds that cannot be estimated are not a number.

    Args:
        value: the figure itself.
        low: lower bound.
        high: upper bound.
    """

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def known(self) -> bool:
        """Whether the bounds could be estimated."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @classmethod
    def of(cls, value: "Interval | float | Mapping[str, float]") -> "Interval":
        """Return an interval from one, from a bare number, or from what `to_json` returns."""
        if isinstance(value, Interval):
            return value
        if isinstance(value, Mapping):
            return cls(float(value["value"]), float(value["low"]), float(value["high"]))
        return cls(float(value))

    def text(self, unit: str = "", decimals: int | None = None) -> str:
        """Return the figure for people, e.g. `41.2 HU [38.0, 44.5]`; `decimals` count where bounds are unknown."""
        unit = f" {unit}" if unit else ""
        if not self.known or not math.isfinite(self.value):
            return number(self.value, decimals) + unit
        value, low, high = self.numbers()
        return f"{value}{unit} [{low}, {high}]"

    def numbers(self) -> tuple[str, str, str]:
        """Return value, low and high in words, with the same decimals."""
        decimals = _decimals(self.value, self.high - self.low) if self.known else None
        return number(self.value, decimals), number(self.low, decimals), number(self.high, decimals)

    def root(self) -> "Interval":
        """Return the root of a mean of squares; a bound below 0, where an interval is symmetric, counts as 0."""
        return Interval(*(max(value, 0.0) ** 0.5 for value in (self.value, self.low, self.high)))

    def above(self, other: "Interval") -> bool:
        """Whether this figure exceeds the other beyond both intervals; unknown bounds count as the value."""
        low = self.low if self.known else self.value
        high = other.high if other.known else other.value
        return low > high

    def to_json(self) -> float | dict[str, float] | None:
        """Return `{"value", "low", "high"}`; the bare number where bounds are unknown, `None` for none."""
        if not math.isfinite(self.value):
            return None
        if not self.known:
            return self.value
        return {"value": self.value, "low": self.low, "high": self.high}


def states_interval(value: Mapping[str, Any]) -> bool:
    """Return whether a mapping of JSON is meant for an interval: it has a `value`, and no key that an interval has not."""
    return "value" in value and value.keys() <= {"value", "low", "high"}


def as_vector(values: Values, name: str = "values") -> NDArray[np.float64]:
    """Return values as a float64 vector; raise InputError where they are not finite, not 1-D, or none."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or vector.size == 0:
        raise InputError(f"{name} must be a vector with at least one entry, got shape {vector.shape}")
    if not np.isfinite(vector).all():
        wrong = int((~np.isfinite(vector)).sum())
        raise InputError(
            f"{wrong} of {vector.size} {name} are not finite; leave them out and say so, or mend their cause"
        )
    return vector


def _members(n: int, groups: Sequence[Any] | None) -> list[NDArray[np.intp]]:
    """Return the indices of each group, in order of first appearance."""
    if groups is None:
        return [np.array([index]) for index in range(n)]
    if len(groups) != n:
        raise InputError(
            f"got {len(groups)} group labels for {n} values; give one label (patient) to each value"
        )
    found: dict[Any, list[int]] = {}
    for index, label in enumerate(groups):
        found.setdefault(label, []).append(index)
    return [np.array(indices) for indices in found.values()]


def resampling_weights(
    n: int, groups: Sequence[Any] | None, *, seed: int | np.random.Generator, draws: int
) -> NDArray[np.float64] | None:
    """Return how often each of `n` values is drawn, shape `(draws, n)`; `None` where there is but one group.

    Whole groups are drawn with replacement, so that values of one patient stay together.
    """
    members = _members(n, groups)
    if len(members) < 2:
        return None
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=draws)
    belongs = np.empty(n, dtype=np.intp)
    for group, indices in enumerate(members):
        belongs[indices] = group
    return counts[:, belongs].astype(np.float64)


def predicted(values: Values, *, level: float = 0.95) -> Interval:
    """Return the geometric mean of positive values, and the interval in which another value of the same kind lies.

    Logarithms are taken as normal: mean +- t s sqrt(1 + 1/n). A single value has no bounds.

    Args:
        values: positive, shape `(n,)`.
        level: how likely another value lies within.

    Raises:
        InputError: a value is not positive or not finite.
    """
    vector = as_vector(values)
    if not (vector > 0).all():
        raise InputError(f"values must be positive, the least is {vector.min()}")
    logs, n = np.log(vector), vector.size
    centre = float(logs.mean())
    if n < 2:
        return Interval(math.exp(centre))
    half = float(stdtrit(n - 1, (1 + level) / 2) * logs.std(ddof=1) * math.sqrt(1 + 1 / n))
    return Interval(math.exp(centre), math.exp(centre - half), math.exp(centre + half))


def bootstrap(
    values: Values,
    statistic: Statistic = np.mean,
    groups: Sequence[Any] | None = None,
    *,
    seed: int | np.random.Generator = 0,
    draws: int = 1000,
    level: float = 0.95,
) -> Interval:
    """Return a statistic with its percentile bootstrap interval (Efron & Tibshirani 1993, ch. 13).

    Of fewer than 20 values without groups that interval is too narrow (Hesterberg 2015, Am Stat 69(4):371), so their mean has
    Student's.

    Args:
        values: shape `(n,)`.
        statistic: a function with numpy's signature, `statistic(values, axis=-1)`; the mean by default.
        groups: labels, one a value (patients); whole groups are resampled. One group has no interval.
        seed: seed or generator of the resampling.
        draws: bootstrap samples.
        level: probability that the interval is to cover.

    Raises:
        InputError: no values, values that are not finite, a label too many or too few, an impossible level.
    """
    vector = as_vector(values)
    if not 0 < level < 1 or draws < 1:
        raise InputError(
            f"the level must lie between 0 and 1 and draws be positive, got level={level}, draws={draws}"
        )
    value = float(statistic(vector, axis=-1))
    members = _members(len(vector), groups)
    if len(members) < 2:
        return Interval(value)
    if statistic is np.mean and groups is None and len(vector) < FEW:
        # Student's quantile; scipy.stats has the same one, and takes a second to import.
        quantile = stdtrit(len(vector) - 1, (1 + level) / 2)
        half = float(quantile * vector.std(ddof=1) / math.sqrt(len(vector)))
        return Interval(value, value - half, value + half)
    if statistic is np.mean:
        weights = resampling_weights(len(vector), groups, seed=seed, draws=draws)
        assert weights is not None
        resampled = weights @ vector / weights.sum(axis=1)
    else:
        rng = np.random.default_rng(seed)
        chosen = rng.integers(len(members), size=(draws, len(members)))
        if len({len(indices) for indices in members}) == 1:
            table = vector[np.stack(members)]
            resampled = statistic(table[chosen].reshape(draws, -1), axis=-1)
        else:
            resampled = np.array(
                [
                    statistic(vector[np.concatenate([members[group] for group in row])], axis=-1)
                    for row in chosen
                ]
            )
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))
