"""How far samples scatter, gone through few at a time so that all of them need never be in memory."""

__all__ = ["squared_deviations"]

from collections.abc import Iterator

import torch
from torch import Tensor

from invkit.images.region import Region
from invkit.sampling.draws import CHUNK
from invkit.sampling.stack import Stack
from invkit.training.precision import in_float64, sum_in_float64


def squared_deviations(images: Tensor | Stack, region: Region | None = None) -> Tensor:
    """Return of each sample the mean square over pixels of its difference from the samples' mean, `(N,)`, float64, HU^2.

    Their mean is the mean over pixels of the samples' variance (divisor N - 1).

    Args:
        images: at least two samples, `(N, 1, H, W)`, HU.
        region: which pixels count; all by default.
    """

    def parts() -> Iterator[Tensor]:
        for start in range(0, len(images), CHUNK):
            part = images[start : start + CHUNK]
            yield part.flatten(1) if region is None else region.pixels(part).flatten(1)

    n = len(images)
    total: Tensor | None = None
    for part in parts():
        rows = sum_in_float64(part, 0)
        total = rows if total is None else total + rows
    assert total is not None
    mean = (total / n).float()
    squares = [in_float64((part - mean.to(part)).square()).mean(1) for part in parts()]
    return torch.cat(squares) * (n / (n - 1))
