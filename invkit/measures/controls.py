"""Where a layer stands between its two controls: its own spread (E3) and what it retains (E10)."""

__all__ = ["retained_information", "variance_position"]

from collections.abc import Sequence
from typing import Any

import numpy as np

from invkit.errors import InputError
from invkit.statistics.intervals import Interval, Values, as_vector, resampling_weights


def _position(
    value: Values,
    zero: Values,
    one: Values,
    groups: Sequence[Any] | None,
    seed: int | np.random.Generator,
    draws: int,
) -> Interval:
    """Return `(mean value - mean zero) / (mean one - mean zero)` with a joint bootstrap over images."""
    vectors = [as_vector(value), as_vector(zero), as_vector(one)]
    if len({len(vector) for vector in vectors}) != 1:
        raise InputError(
            f"layer and controls need one value an image each, got {[len(vector) for vector in vectors]}"
        )
    columns = np.stack(vectors, axis=1)

    def position(means: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((means[..., 0] - means[..., 1]) / (means[..., 2] - means[..., 1]))

    middle = float(position(columns.mean(axis=0)))
    if not np.isfinite(middle):
        raise InputError(
            "the two controls have the same mean, so nothing lies between them; check that both were trained"
        )
    weights = resampling_weights(len(columns), groups, seed=seed, draws=draws)
    if weights is None:
        return Interval(middle)
    resampled = position(weights @ columns / weights.sum(axis=1, keepdims=True))
    low, high = np.quantile(resampled[np.isfinite(resampled)], [0.025, 0.975])
    return Interval(middle, float(low), float(high))


def variance_position(
    layer: Values,
    input_control: Values,
    const_control: Values,
    groups: Sequence[Any] | None = None,
    *,
    seed: int | np.random.Generator = 0,
    draws: int = 1000,
) -> Interval:
    """Return V = (Var_layer - Var_input) / (Var_const - Var_input) with its 95 % bootstrap interval (E3).

    0 says that the layer's spread is the method's floor, 1 that the model does not use z at all.

    Args:
        layer: variance of the samples per image, `(n,)`, HU^2.
        input_control: the same of the `input` control's samples.
        const_control: the same of the `const` control's samples.
        groups: labels (patients), resampled as wholes.
        seed: seed of the resampling.
        draws: bootstrap samples.
    """
    return _position(layer, input_control, const_control, groups, seed, draws)


def retained_information(
    layer: Values,
    const_control: Values,
    floor: Values,
    groups: Sequence[Any] | None = None,
    *,
    seed: int | np.random.Generator = 0,
    draws: int = 1000,
) -> Interval:
    """Return R = (NLL_const - NLL_layer) / (NLL_const - E[H(q)]) with its 95 % bootstrap interval (E10).

    1 says that z tells everything the code holds, 0 that it tells nothing.

    Args:
        layer: negative log-likelihood of each image's code, `(n,)`, nats per dimension.
        const_control: the same under the `const` control.
        floor: entropy of each image's posterior, `(n,)`, nats per dimension.
        groups: labels (patients), resampled as wholes.
        seed: seed of the resampling.
        draws: bootstrap samples.
    """
    return _position(layer, const_control, floor, groups, seed, draws)
