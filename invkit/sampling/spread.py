"""How far samples scatter, gone through few at a time so that all of them need never be in memory; intervals of it."""

__all__ = ["root_mean_square", "sample_spread", "squared_deviations"]

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from invkit.images.region import Region
from invkit.sampling.draws import CHUNK
from invkit.sampling.stack import Stack
from invkit.statistics.intervals import Interval, bootstrap
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


def sample_spread(samples: Sequence[Tensor | Stack], *, seed: int, region: Region | None = None) -> Interval:
    """Return the root mean square over pixels of the standard deviation over samples, HU, with a bootstrap interval.

    Where there is one image the samples are resampled, else the images.

    Args:
        samples: for each image its samples, `(N, 1, H, W)`, HU; those of a stack are gone through few at a time.
        seed: of the bootstrap.
        region: which pixels count; all by default.
    """
    return _root_of_mean([squared_deviations(images, region) for images in samples], seed)


def root_mean_square(
    values: Sequence[Tensor], *, seed: int, patients: Sequence[int] | None = None
) -> Interval:
    """Return the root mean square of figures, one tensor an image, with a bootstrap interval.

    It is over images, and where there is one over the patients that its figures are from, or over samples.

    Args:
        values: one tensor an image.
        seed: of the bootstrap.
        patients: number of the patient that each figure of an image is from.
    """
    return _root_of_mean([rows.double().square() for rows in values], seed, patients)


def _root_of_mean(squares: Sequence[Tensor], seed: int, patients: Sequence[int] | None = None) -> Interval:
    """Return the root of the mean, with an interval over images, or over patients or samples where there is one image."""
    groups = [index for index, rows in enumerate(squares) for _ in rows] if len(squares) > 1 else patients
    return bootstrap(torch.cat(list(squares)), groups=groups, seed=seed).root()
