"""Does the layer answer less to the differences of samples than to other small changes?"""

__all__ = ["GainRatios", "gain_ratios"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invkit.errors import InputError
from invkit.fiber.distance import Activation
from invkit.fiber.tangent import Tangent
from invkit.measures.jacobian import jacobian_gain
from invkit.statistics.intervals import Interval
from invkit.statistics.resampling import image_intervals


@dataclass(frozen=True)
class GainRatios:
    """How strongly a layer answers to directions, as root mean squares of |J d| / |d|.

    Args:
        differences: gain along the differences of samples, units of the activation per HU.
        noise: along dose noise.
        random: along white noise, where all directions are alike.
        to_noise: first over second; far below 1 where the layer ignores what samples differ in.
        to_random: first over third.
    """

    differences: Interval
    noise: Interval
    random: Interval
    to_noise: Interval
    to_random: Interval

    def figures(self) -> dict[str, Any]:
        """Return the figures by their keys."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def gain_ratios(
    phi: Callable[[Tensor], Activation],
    images: Sequence[Tensor],
    differences: Sequence[Tensor],
    noise: Sequence[Tensor],
    groups: Sequence[Any] | None = None,
    *,
    random: int = 8,
    seed: int = 0,
    draws: int = 1000,
) -> GainRatios:
    """Return |J d| / |d| along differences, dose noise and white noise, and their ratios.

    J is the Jacobian of Phi at x (`jacobian_gain`). The mean of the squared gain along white noise is the mean squared
    singular value, |J|_F^2 / n, the sensitivity of Novak et al. (ICLR 2018). A ratio is of root mean squares over images, with one
    resampling for both. For large differences the Jacobian says nothing, since Phi is not linear; the certificate does.

    Args:
        phi: differentiable, `(1, 1, H, W)` in HU to the activation (`Split.phi_grad`).
        images: x, each `(1, 1, H, W)`, HU.
        differences: for each image x* - x of its samples, `(n, 1, H, W)`, HU; none of them 0.
        noise: for each image noise of its dose, `(m, 1, H, W)`, HU.
        groups: labels of the images (patients).
        random: directions of white noise for each image.
        seed: of them and of the resampling.
        draws: bootstrap samples.

    Raises:
        InputError: numbers that do not match, a direction of length 0, or a layer that answers to no noise at all.
    """
    if not len(images) == len(differences) == len(noise) or random < 1:
        raise InputError(
            f"every image needs differences and noise, and at least one random direction; got {len(images)} images, "
            f"{len(differences)} differences, {len(noise)} noise, {random} random directions"
        )
    rng = np.random.default_rng(seed)
    tangent = Tangent(phi)
    rows = []
    for x, moved, noisy in zip(images, differences, noise, strict=True):
        white = torch.from_numpy(rng.normal(size=(random, *x.shape))).to(x)
        sets = (moved[:, None].to(x), noisy[:, None].to(x), white)
        rows.append([jacobian_gain(phi, x, each, tangent)[:, 0].square().cpu().numpy() for each in sets])
    if any(column.mean() == 0 for arrays in rows for column in arrays[1:]):
        raise InputError(
            "the layer does not respond to noise at all, so there is nothing to compare with (is it constant?)"
        )

    def means(arrays: Sequence[np.ndarray]) -> np.ndarray:
        return np.array([column.mean() for column in arrays])

    def figures(mean: np.ndarray) -> np.ndarray:
        gain = np.sqrt(mean)
        return np.concatenate([gain, gain[..., :1] / gain[..., 1:]], axis=-1)

    return GainRatios(*image_intervals(rows, means, figures, groups, seed=seed, draws=draws))
