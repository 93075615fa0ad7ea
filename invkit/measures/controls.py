"""How much of the code a layer retains, between its two controls."""

__all__ = ["retained_information"]

from collections.abc import Sequence
from typing import Any

import numpy as np

from invkit.errors import InputError
from invkit.statistics.intervals import Interval, Values, as_vector, resampling_weights


def retained_information(
    layer: Values,
    const_control: Values,
    floor: Values,
    groups: Sequence[Any] | None = None,
    *,
    seed: int | np.random.Generator = 0,
    draws: int = 1000,
) -> Interval:
    """Return R = (NLL_const - NLL_layer) / (NLL_const - E[H(q)]) with its 95 % bootstrap interval.

    1 says that z tells everything the code holds, 0 that it tells nothing. Images are resampled for all three alike.

    Args:
        layer: negative log-likelihood of each image's code, `(n,)`, nats per dimension.
        const_control: the same under the `const` control.
        floor: entropy of each image's posterior, `(n,)`, nats per dimension.
        groups: labels (patients), resampled as wholes.
        seed: seed of the resampling.
        draws: bootstrap samples.

    Raises:
        InputError: the three differ in length, or control and floor have the same mean.
    """
    vectors = [as_vector(layer), as_vector(const_control), as_vector(floor)]
    if len({len(vector) for vector in vectors}) != 1:
        raise InputError(
            f"layer and controls need one value per image each, got {[len(vector) for vector in vectors]}"
        )
    columns = np.stack(vectors, axis=1)

    def retained(means: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((means[..., 0] - means[..., 1]) / (means[..., 2] - means[..., 1]))

    middle = float(retained(columns.mean(axis=0)))
    if not np.isfinite(middle):
        raise InputError(
            "the control and the floor have the same mean, so nothing lies between them; check that it was trained"
        )
    weights = resampling_weights(len(columns), groups, seed=seed, draws=draws)
    if weights is None:
        return Interval(middle)
    resampled = retained(weights @ columns / weights.sum(axis=1, keepdims=True))
    low, high = np.quantile(resampled[np.isfinite(resampled)], [0.025, 0.975])
    return Interval(middle, float(low), float(high))
