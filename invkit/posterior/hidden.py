"""How much noise hides from a layer: the spread of the posterior about x."""

__all__ = ["hidden_noise"]

from collections.abc import Sequence

import torch
from torch import Tensor

from invkit.statistics.intervals import Interval, bootstrap
from invkit.training.precision import in_float64


def hidden_noise(squares: Sequence[Tensor], seed: int) -> Interval:
    """Return the root mean square over draws and pixels, HU, with an interval over draws.

    Args:
        squares: of each image, squared differences from x, `(n, 1, h, w)`, HU^2.
        seed: of the bootstrap.
    """
    means = torch.cat([in_float64(part.flatten(1)).mean(1) for part in squares]).cpu()
    return bootstrap(means, seed=seed).root()
