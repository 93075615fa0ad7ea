"""Intervals of figures that each image has many rows of: over patients, or over the rows where there is one patient."""

__all__ = ["image_intervals"]

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from invkit.errors import InputError
from invkit.statistics.intervals import Interval, resampling_weights

Array = NDArray[np.float64]
Rows = Sequence[Array]


def image_intervals(
    images: Sequence[Rows],
    summary: Callable[[Rows], Array],
    figures: Callable[[Array], Array],
    groups: Sequence[Any] | None = None,
    *,
    seed: int = 0,
    draws: int = 1000,
) -> list[Interval]:
    """Return figures of the mean over images of what sums up each image, with their 95 % bootstrap intervals.

    Every image counts alike, however many rows it has. Patients are resampled as wholes (Davison, Hinkley 1997, section
    3.8). Where there is one patient, the rows of each array are resampled within each image: such an interval tells how
    well the image is known, and nothing about others.

    Args:
        images: for each image arrays whose first axis are its rows, e.g. its samples.
        summary: maps the arrays of one image to a vector, `(k,)`.
        figures: maps mean vectors, `(..., k)`, to figures, `(..., m)`.
        groups: labels of the images (patients); each image by itself where there are none.
        seed: of the resampling.
        draws: bootstrap samples.

    Raises:
        InputError: no images, an image without rows, or figures that are not finite.
    """
    if not images or any(len(rows) == 0 for arrays in images for rows in arrays):
        raise InputError("figures need at least one image, and each image at least one row")
    vectors = np.stack([summary(arrays) for arrays in images])
    value = figures(vectors.mean(axis=0))
    if not np.isfinite(value).all():
        raise InputError("a figure is not finite; check that no image is empty, constant or not finite")
    weights = resampling_weights(len(images), groups, seed=seed, draws=draws)
    if weights is not None:
        resampled = figures(weights @ vectors / weights.sum(axis=1, keepdims=True))
    else:
        rng = np.random.default_rng(seed)
        if all(len(rows) == 1 for arrays in images for rows in arrays):
            return [Interval(float(one)) for one in np.atleast_1d(value)]
        resampled = np.stack(
            [
                figures(
                    np.mean(
                        [
                            summary([rows[rng.integers(len(rows), size=len(rows))] for rows in arrays])
                            for arrays in images
                        ],
                        axis=0,
                    )
                )
                for _ in range(draws)
            ]
        )
    table = resampled.reshape(len(resampled), -1)
    return [_interval(float(one), table[:, column]) for column, one in enumerate(np.atleast_1d(value))]


def _interval(value: float, resampled: Array) -> Interval:
    finite = resampled[np.isfinite(resampled)]
    if len(finite) < len(resampled):
        return Interval(value)
    low, high = np.quantile(finite, [0.025, 0.975])
    return Interval(value, float(low), float(high))
