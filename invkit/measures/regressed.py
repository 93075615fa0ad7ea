"""How well an image can be estimated from a layer's activation, in order of depth, and whether that can be true."""

__all__ = ["RegressionCurve", "regression_curve"]

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from invkit.errors import InputError
from invkit.measures.retained import Rise, rises
from invkit.statistics.convergence import Convergence
from invkit.statistics.intervals import Interval, Values, as_vector, bootstrap

ROUNDING_HU = 0.01  # what is less than this is rounding and no error of an estimate


@dataclass(frozen=True)
class RegressionCurve:
    """RMSE of the best regression of x from z over depth.

    Args:
        layers: names, from the image to the output.
        rmse: of each, HU; 0.01 HU stands for that or less.
        const: the same for a constant z: the spread of the images themselves, HU; `None` where it is not known.
        falls: pairs of layers in the wrong order, beyond the intervals of all pairs; differences of RMSE in HU, as how
            much less the deeper layer leaves.
        convergence: of each layer's regression, gains in HU.
        reasons: sentences that say why the estimate is not to be trusted; none where it is.
        trusted: whether it is; `None` where errors of single patches are not known, or those of one patient.
    """

    layers: tuple[str, ...]
    rmse: tuple[Interval, ...]
    const: Interval | None
    falls: tuple[Rise, ...]
    convergence: tuple[Convergence, ...]
    reasons: tuple[str, ...]
    trusted: bool | None

    def figures(self) -> dict[str, Any]:
        """Return the figures by their keys."""
        return {
            "layers": [
                {"layer": layer, "rmse_hu": one, **ended.figures()}
                for layer, one, ended in zip(self.layers, self.rmse, self.convergence, strict=True)
            ],
            "const_rmse_hu": self.const,
            "falls": [
                {"shallow": fall.shallow, "deep": fall.deep, "difference_hu": fall.difference}
                for fall in self.falls
            ],
            "trusted": self.trusted,
            "reasons": list(self.reasons),
        }


def regression_curve(
    layers: Mapping[str, Values],
    const_control: Values | None,
    groups: Sequence[Any] | None = None,
    *,
    convergence: Mapping[str, Convergence],
    bypassed: Collection[str] = (),
    seed: int = 0,
    draws: int = 2000,
) -> RegressionCurve:
    """Return the RMSE of the regression of x from z of each layer, and whether the order is possible.

    Among all functions of z, E[x | z] has the least mean squared error, so the error of a trained g bounds it from above.
    z of a deeper layer is computed from z of a shallower one, so a function of the deeper z is a function of the shallower:
    the least error cannot fall with depth. Where it seems to, the networks g are not equally good.

    The same patches are judged under every layer, so differences are paired; they are tested as `retained_curve` tests its
    own, and given as RMSE by a^2 - b^2 = (a - b) (a + b). Errors below 0.01 HU are rounding, and count as 0.01 HU.

    Args:
        layers: mean squared error of each held-out patch, `(n,)`, HU^2, by name in order of depth.
        const_control: the same for a constant z.
        groups: labels of the rows (patients).
        convergence: of each layer's regression.
        bypassed: branches, round which something goes; those after them may know more, so they are not compared.
        seed: of the resampling.
        draws: bootstrap samples.

    Raises:
        InputError: no layers, or rows that differ in number, are not finite or negative.
    """
    if not layers:
        raise InputError("a curve needs at least one layer")
    names = tuple(layers)
    vectors = [as_vector(rows, f"squared errors of {name}") for name, rows in layers.items()]
    const = None if const_control is None else as_vector(const_control, "squared errors of const")
    known = vectors if const is None else [*vectors, const]
    if len({len(vector) for vector in known}) != 1 or any((vector < 0).any() for vector in known):
        raise InputError(
            "all layers must be judged on the same rows and squares are not negative, got "
            f"{sorted({len(vector) for vector in known})} rows"
        )

    vectors = [np.maximum(vector, ROUNDING_HU**2) for vector in vectors]

    def rmse(vector: Values) -> Interval:
        square = bootstrap(vector, groups=groups, seed=seed, draws=draws)
        return square.root()

    found = tuple(rmse(vector) for vector in vectors)
    reasons = [
        ended.text(f"the regression from {name}", " HU")
        for name, ended in convergence.items()
        if ended.converged is False
    ]
    falls: tuple[Rise, ...] = ()
    single = groups is not None and len(set(groups)) < 2
    if not single:
        table = np.stack(vectors, axis=1)
        unit = np.ones(len(table))
        wrong = rises(names, table, unit, groups, bypassed=bypassed, seed=seed, draws=draws)
        of = dict(zip(names, found, strict=True))
        falls = tuple(
            Rise(
                rise.shallow, rise.deep, _over(rise.difference, of[rise.shallow].value + of[rise.deep].value)
            )
            for rise in wrong
        )
    reasons += [
        f"From {fall.deep}, x is estimated with an error smaller by {fall.difference.text('HU')} than from {fall.shallow} "
        "before it, which cannot be: the estimate compares trainings, not layers."
        for fall in falls
    ]
    trusted = None if single and not reasons else not reasons
    ended = tuple(convergence[name] for name in names)
    return RegressionCurve(
        names, found, None if const is None else rmse(const), falls, ended, tuple(reasons), trusted
    )


def _over(interval: Interval, unit: float) -> Interval:
    return Interval(interval.value / unit, interval.low / unit, interval.high / unit)
