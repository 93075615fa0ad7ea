"""What the layers of a network retain of the code, in order of depth, and whether that can be true."""

__all__ = ["RetainedCurve", "Rise", "retained_curve", "rises"]

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from invkit.errors import InputError
from invkit.measures.controls import retained_information
from invkit.statistics.convergence import Convergence
from invkit.statistics.intervals import Interval, Values, as_vector

Array = NDArray[np.float64]
LEVEL = 0.95  # of all pairs of layers together
RESOLVED = 1e-4  # of what the code holds; smaller differences are of the fits, not of the layers


@dataclass(frozen=True)
class Rise:
    """A deeper layer that seems to retain more than one above it, which cannot be.

    Args:
        shallow: the layer that comes first.
        deep: the one after it.
        difference: R of the deeper minus R of the shallower layer; above 0 together with all other pairs.
    """

    shallow: str
    deep: str
    difference: Interval


@dataclass(frozen=True)
class RetainedCurve:
    """Retained information over depth.

    Args:
        layers: names, from the image to the output.
        retained: R of each, 0 for none and 1 for all that the code holds.
        rises: pairs of layers in the wrong order, beyond the intervals of all pairs.
        reasons: sentences that say why the estimate is not to be trusted; none where it is.
        trusted: whether it is; `None` where there are too few patients to say.
        convergence: of the training of each layer, gains as shares of what the code holds; empty where not asked for.
    """

    layers: tuple[str, ...]
    retained: tuple[Interval, ...]
    rises: tuple[Rise, ...]
    reasons: tuple[str, ...]
    trusted: bool | None
    convergence: tuple[Convergence, ...] = ()

    def figures(self) -> dict[str, Any]:
        """Return the figures by their keys."""
        return {
            "layers": [
                {"layer": layer, "retained": one, **(ended.figures() if ended else {})}
                for layer, one, ended in zip(
                    self.layers, self.retained, self.convergence or [None] * len(self.layers), strict=True
                )
            ],
            "rises": [
                {"shallow": rise.shallow, "deep": rise.deep, "difference": rise.difference}
                for rise in self.rises
            ],
            "trusted": self.trusted,
            "reasons": list(self.reasons),
        }


def retained_curve(
    layers: Mapping[str, Values],
    const_control: Values,
    floor: Values,
    groups: Sequence[Any] | None = None,
    *,
    convergence: Mapping[str, Convergence] | None = None,
    bypassed: Collection[str] = (),
    seed: int = 0,
    draws: int = 2000,
) -> RetainedCurve:
    """Return R_l = (NLL_const - NLL_l) / (NLL_const - E[H(q)]) of each layer, and whether the order is possible.

    NLL_l bounds the entropy of the code given z_l from above, so R_l estimates the mutual information of code and z_l as a
    fraction of that of code and image. z of a deeper layer is computed from z of a shallower one, so R must not rise with
    depth (data-processing inequality; Cover, Thomas, *Elements of Information Theory*, theorem 2.8.1). A rise says that the
    networks behind the estimates are not equally good, and that the figures compare trainings, not layers.

    The same codes are judged under every layer, so differences are paired; intervals are over patients. A pair counts as a
    rise where its difference lies above 0 by more than c cluster-robust standard errors, c being the quantile of the largest
    studentised difference among all pairs when the sign of each patient's part is random (wild bootstrap-t; Cameron,
    Gelbach, Miller 2008): so a curve in order has a rise with a probability of about 5 %, however many layers. Less than
    0.0001 is no rise: layers from which the code is known exactly differ by the last digits of their fits alone.

    Args:
        layers: NLL of each held-out code, `(n,)`, nats per dimension, by name in order of depth (`nll_rows`).
        const_control: the same under the `const` control.
        floor: entropy of each posterior, `(n,)`, nats per dimension.
        groups: labels of the rows (patients).
        convergence: of the training of each layer; its gains are in shares of NLL_const - E[H(q)].
        bypassed: branches, round which something goes; those after them may know more, so they are not compared.
        seed: of the resampling.
        draws: bootstrap samples.

    Raises:
        InputError: no layers, rows that differ in number or are not finite, or controls that are equal.
    """
    if not layers:
        raise InputError("a curve needs at least one layer")
    names = tuple(layers)
    vectors = [as_vector(rows, f"NLL of {name}") for name, rows in layers.items()]
    const, least = as_vector(const_control, "NLL of const"), as_vector(floor, "floor")
    lengths = {len(vector) for vector in (*vectors, const, least)}
    if len(lengths) != 1:
        raise InputError(
            f"all layers and controls must be judged on the same rows, got {sorted(lengths)} of them"
        )
    retained = tuple(
        retained_information(vector, const, least, groups, seed=seed, draws=draws) for vector in vectors
    )
    ended = () if convergence is None else tuple(convergence[name] for name in names)
    reasons = [
        one.text(name, " of what the code holds")
        for name, one in zip(names, ended, strict=False)
        if not one.converged
    ]
    for name, one in zip(names, retained, strict=True):
        if one.above(Interval(1.0)) or Interval(0.0).above(one):
            reasons.append(f"{name} would retain {one.text()} of the code, outside 0 to 1.")
    if len(const if groups is None else set(groups)) < 2:
        return RetainedCurve(names, retained, (), tuple(reasons), False if reasons else None, ended)
    table = np.stack(vectors, axis=1)
    scale = const - least
    found = rises(names, table, scale, groups, bypassed=bypassed, least=RESOLVED, seed=seed, draws=draws)
    for rise in found:
        reasons.append(
            f"{rise.deep} seems to retain {rise.difference.text()} more than {rise.shallow} before it, which cannot be: "
            "the estimate compares trainings, not layers."
        )
    return RetainedCurve(names, retained, found, tuple(reasons), not reasons, ended)


def rises(
    names: tuple[str, ...],
    nll: Array,
    scale: Array,
    groups: Sequence[Any] | None,
    *,
    bypassed: Collection[str] = (),
    least: float = 0.0,
    seed: int,
    draws: int,
) -> tuple[Rise, ...]:
    """Return the pairs of layers in the wrong order, beyond the intervals of all pairs.

    Args:
        names: of the layers.
        nll: of each row under each layer, or another loss, `(n, layers)`.
        scale: its unit for each row, `(n,)`: NLL of `const` minus entropy.
        groups: labels of the rows.
        bypassed: layers that others are not held against.
        least: differences up to this are none.
        seed: of the signs.
        draws: resamplings.
    """
    shallow, deep = np.triu_indices(len(names), k=1)
    comparable = np.array([names[first] not in bypassed for first in shallow], dtype=bool)
    shallow, deep = shallow[comparable], deep[comparable]
    gained = nll[:, shallow] - nll[:, deep]
    value = gained.mean(axis=0) / scale.mean()
    influence = (gained - value * scale[:, None]) / (scale.mean() * len(nll))
    labels = range(len(nll)) if groups is None else groups
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    by_group = np.zeros((len(numbers), len(value)))
    np.add.at(by_group, [numbers[label] for label in labels], influence)
    square = (by_group**2).sum(axis=0)
    # Two names of one module differ by rounding, or not at all.
    real = square > 1e-24
    names_of = list(zip(shallow[real], deep[real], strict=True))
    value, square, by_group = value[real], square[real], by_group[:, real]
    if not len(value):
        return ()
    count = len(by_group)
    shift = np.random.default_rng(seed).choice([-1.0, 1.0], size=(draws, count)) @ by_group
    # All signs alike give a spread of 0.
    spread = np.maximum((square - shift**2 / count) * count / (count - 1), 1e-12 * square)
    largest = np.quantile((shift / np.sqrt(spread)).max(axis=1), LEVEL)
    error = np.sqrt(square * count / (count - 1))
    return tuple(
        Rise(names[first], names[second], Interval(float(one), float(one - reach), float(one + reach)))
        for (first, second), one, reach in zip(names_of, value, largest * error, strict=True)
        if one > max(reach, least)
    )
