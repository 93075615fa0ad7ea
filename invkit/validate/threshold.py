"""Soft thresholding: the fiber is a box, and p(x|z) in it is the prior of the coefficients, truncated."""

__all__ = ["LaplacePrior", "check_threshold", "ks_uniform"]

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from invkit.denoisers.oracles.oracle import LEVELS, TAU
from invkit.denoisers.oracles.pointwise import Haar
from invkit.split.split import Split
from invkit.validate.rows import LEAST_CERTIFIED, Row, Seeds
from invkit.validate.trial import Trial

SIZE = 16
IMAGES, DRAWS, JOINT = 2, 16, 16
WIDTHS = (60.0, 40.0, 25.0)  # HU, of the Laplace distribution, from the coarsest details to the finest
EPSILON = 1e-6  # of the layer's scale
CORNER = 0.75
MOVED = 1e-2  # HU: less than this is rounding, not a move


class LaplacePrior:
    """Details in the Haar basis that are independent, with p(c) = exp(-abs(c) / b) / 2 b; the coarse image is normal.

    Soft thresholding finds the most probable image under this prior.

    Args:
        size: side of the images, pixels.
    """

    def __init__(self, size: int) -> None:
        self.size, self.widths = size, torch.zeros(size, size, dtype=torch.float64)
        for finer, width in enumerate(reversed(WIDTHS)):
            self.widths[: size >> finer, : size >> finer] = width
        self.widths[: size >> LEVELS, : size >> LEVELS] = 0.0
        self.detail = self.widths > 0

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Return coefficients `(n, 1, size, size)`, HU, float64."""
        shape = n, 1, self.size, self.size
        size = torch.empty(shape, dtype=torch.float64).exponential_(generator=generator)
        normal = torch.randn(shape, generator=generator, dtype=torch.float64)
        return torch.where(self.detail, self.widths * size * normal.sign(), 100.0 * normal)

    def truncated_cdf(self, c: Tensor) -> Tensor:
        """Return P(c' <= c | abs(c') <= tau) of details `(..., size, size)`: uniform if they follow the truncated prior."""
        inside = -torch.expm1(-TAU / self.widths)
        part = -torch.expm1(-c.abs() / self.widths) / inside
        return 0.5 * (1 + part * c.sign())


@dataclass(frozen=True)
class _Found:
    """What was found at one image: coefficients, those of joint certified samples, which ones were found to be free."""

    c: Tensor
    samples: Tensor
    free: Tensor


def check_threshold(split: Split, seeds: Seeds) -> list[Row]:
    """Return whether samples that are found coefficient by coefficient follow the truncated prior, and what stays."""
    prior = LaplacePrior(SIZE)
    found = [_explore(split, replace(seeds, name=f"{seeds.name}.{index}"), prior) for index in range(IMAGES)]
    uniform, moved, hits, either = [], [], 0, 0
    for image in found:
        killed = (image.c.abs() <= TAU) & prior.detail
        samples = image.samples[:, 0]
        uniform.append(prior.truncated_cdf(samples)[:, killed].flatten())
        moved.append(((samples - image.c) / image.c).abs()[:, ~killed].flatten())
        hits += int((killed & image.free).sum())
        either += int((killed | image.free).sum())
    enough = all(len(image.samples) >= LEAST_CERTIFIED for image in found)
    return [
        Row(
            "soft-threshold.killed",
            "KS distance of erased coefficients in certified samples to the truncated prior",
            ks_uniform(torch.cat(uniform)) if enough else math.nan,
            0.05,
        ),
        Row(
            "soft-threshold.kept",
            "largest relative change of a kept coefficient in certified samples",
            float(torch.cat(moved).max()) if enough else math.nan,
            1e-5,
        ),
        Row(
            "soft-threshold.found",
            "overlap of the coefficients found to be free with the erased ones, intersection over union",
            hits / either,
            0.99,
            ">=",
        ),
    ]


def ks_uniform(values: Tensor) -> float:
    """Return the Kolmogorov-Smirnov distance of values to the uniform distribution on [0, 1]."""
    ordered = values.double().sort().values
    step = torch.arange(1, len(ordered) + 1, dtype=torch.float64) / len(ordered)
    return float(torch.maximum(step - ordered, ordered - step + 1 / len(ordered)).max())


def _explore(split: Split, seeds: Seeds, prior: LaplacePrior) -> _Found:
    """Draw each detail anew from the prior, alone; keep what is certified without being moved; then change all at once.

    A prior draw that is kept if and only if it lies in the fiber follows the prior restricted to the fiber (rejection
    sampling), whatever the fiber is. Given all others, that is the conditional of one coefficient; as certified samples
    of all of them show, they do not depend on each other.
    """
    back, forth = Haar(LEVELS, inverse=True), Haar(LEVELS)
    c = prior.draw(1, seeds.generator("image"))
    # An unlikely corner of the box, so that coefficients that are left as they were do not look like draws.
    c = torch.where((c.abs() <= TAU) & prior.detail, CORNER * TAU, c)
    patches = back(prior.draw(DRAWS, seeds.generator("patches"))).float()
    trial = Trial.at(split, back(c).float(), patches, seeds, EPSILON)
    c = forth(trial.x.double())
    draws = prior.draw(DRAWS, seeds.generator("draws"))[:, 0]
    places = prior.detail.nonzero()
    proposals = c.repeat(len(places) * DRAWS, 1, 1, 1).view(len(places), DRAWS, SIZE, SIZE)
    for index, (row, column) in enumerate(places.tolist()):
        proposals[index, :, row, column] = draws[:, row, column]
    images = back(proposals.view(-1, 1, SIZE, SIZE)).float()
    refined = trial.refine(images)
    # Refined or not, a kept coefficient ends where it was; only draws that nothing had to be done to are draws.
    still = (refined.images - images).flatten(1).abs().amax(1) <= MOVED
    drawn = (refined.certificates.holds & still).view(len(places), DRAWS)
    joint = c.repeat(JOINT, 1, 1, 1)
    free = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    for index, (row, column) in enumerate(places.tolist()):
        taken = draws[drawn[index], row, column]
        if len(taken):
            free[row, column] = True
            joint[:, 0, row, column] = taken[torch.arange(JOINT) % len(taken)]
    together = trial.refine(back(joint).float())
    return _Found(c[0, 0], forth(together.images[together.certificates.holds].double()), free)
