"""How different samples are from each other."""

__all__ = ["Diversity", "diversity"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from invkit.errors import InputError
from invkit.fiber.scale import effective_rank
from invkit.statistics.intervals import Interval
from invkit.statistics.resampling import image_intervals
from invkit.training.precision import in_float64


@dataclass(frozen=True)
class Diversity:
    """How different samples are from each other; meaningful only together with their fiber error.

    Args:
        rmse: root mean square difference of two different samples of an image, HU.
        rank: effective rank of the samples' covariance: directions that the spread is spread over; at most
            `samples - 1`.
        samples: how many of each image were used; ranks compare only at equal numbers.
    """

    rmse: Interval
    rank: Interval
    samples: int

    def figures(self) -> dict[str, Any]:
        """Return the figures by their keys."""
        return {"rmse_hu": self.rmse, "rank": self.rank, "samples": self.samples}


def diversity(
    samples: Sequence[Tensor],
    groups: Sequence[Any] | None = None,
    *,
    count: int | None = None,
    seed: int = 0,
    draws: int = 1000,
) -> Diversity:
    """Return mean pairwise difference and effective rank of samples, with intervals over images or patients.

    The mean square over all pairs is 2 N / (N - 1) times that of the deviations from the mean. The effective rank is the
    exponential of the entropy of the covariance's eigenvalues, as shares of their sum (Roy, Vetterli, EUSIPCO
    2007); they are those of the N x N Gram matrix of the deviations. It rises with N, so all images give the same number.

    Where there is one patient, the difference gets an interval over its samples, and the rank none: samples drawn twice
    would lower it.

    Args:
        samples: for each image `(n, 1, H, W)`, HU; at least two.
        groups: labels of the images (patients).
        count: samples of each image to use, the first ones; as many as all have by default.
        seed: of the resampling.
        draws: bootstrap samples.

    Raises:
        InputError: an image with fewer than two samples, or fewer than `count`.
    """
    fewest = min((len(of_image) for of_image in samples), default=0)
    used = fewest if count is None else count
    if used < 2 or used > fewest:
        raise InputError(
            f"diversity needs at least 2 samples of each image and {used} of them to be used; got {fewest}"
        )
    if groups is not None and len(groups) != len(samples):
        raise InputError(f"got {len(groups)} group labels for {len(samples)} images; give one label to each")
    rows, ranks = [], []
    for of_image in samples:
        chosen = of_image[:used]
        deviation = in_float64(chosen) - in_float64(chosen).mean(0)
        square = deviation.flatten(1).square().mean(1) * (2 * used / (used - 1))
        rows.append([square.cpu().numpy()])
        ranks.append([effective_rank(chosen[:, None]).cpu().numpy()])

    def mean(arrays: Sequence[np.ndarray]) -> np.ndarray:
        return np.array([arrays[0].mean()])

    (rmse,) = image_intervals(rows, mean, np.sqrt, groups, seed=seed, draws=draws)
    (rank,) = image_intervals(ranks, mean, np.asarray, groups, seed=seed, draws=draws)
    return Diversity(rmse, rank, used)
