"""The baseline of every trained sampler: training-free proposals, refined to the same epsilon."""

__all__ = ["BASELINE_SAMPLES", "baseline", "baseline_found", "plausible_spread"]

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from invkit.certificates.certify import Certified, refine_proposals
from invkit.certificates.judge import Judge
from invkit.images.region import Region
from invkit.sampling.layer import Target
from invkit.sampling.spread import root_mean_square, sample_spread
from invkit.sampling.training_free import training_free
from invkit.statistics.intervals import Interval
from invkit.verdict.measures import Baseline

BASELINE_SAMPLES = 8  # of each image at most: the baseline may cost half of what is proven at the default


def baseline(
    target: Target,
    *,
    count: int,
    seed: int,
    image: int,
    judge: Judge | None = None,
    epsilon: float | None = None,
) -> Certified | None:
    """Refine training-free proposals for one image; `None` where no gradient of the layer reaches the image.

    Args:
        target: the image as the layer sees it.
        count: how many the sampler under test refines; as many are tried, but no more than 8.
        seed: of the analysis.
        image: index of the image.
        judge: places the refined proposals among real images; left out for `None`.
        epsilon: the same as for the sampler under test, in units of s_Phi; by default the layer's.
    """
    indices = range(min(count, BASELINE_SAMPLES))
    proposals = training_free(target.x, target.f_x, seed=seed, image=image, indices=indices)
    found = refine_proposals(proposals, target, epsilon=epsilon)
    if found is None or judge is None:
        return found
    return replace(found, placed=judge.place(found.images, target.x, target.f_x))


def plausible_spread(
    found: Sequence[Certified], *, seed: int, region: Region | None = None
) -> tuple[int, Interval | None]:
    """Return how many certified samples are plausible, of the image with the fewest, and their spread, HU.

    All certified samples count where they were not placed among real images. There is no spread of fewer than two.

    Args:
        found: the refined samples of each image, at least one.
        seed: of the bootstrap.
        region: which pixels count; all by default.
    """
    kept = [one.images[one.certificates.holds & _inside(one)] for one in found]
    count = min(len(images) for images in kept)
    return count, sample_spread(kept, seed=seed, region=region) if count >= 2 else None


def _inside(found: Certified) -> Tensor:
    if found.placed is None:
        return torch.ones(len(found.images), dtype=torch.bool)
    return torch.tensor([bool(row["inside"]) for row in found.placed.rows])


def baseline_found(
    found: Sequence[Certified], own: Sequence[Certified], *, seed: int, region: Region | None = None
) -> Baseline | None:
    """Return the baseline's results next to those of the sampler under test; `None` where nothing was refined.

    Args:
        found: the refined proposals of each image.
        own: the refined samples of each image.
        seed: of the bootstrap.
        region: which pixels count; all by default.
    """
    if not found:
        return None
    count = min(len(one.samples) for one in found)
    plausible, plausible_hu = plausible_spread(found, seed=seed, region=region)
    proposals = [
        sample_spread([one.proposals for one in each], seed=seed, region=region)
        for each in (found, own)
        if len(each[0].images) >= 2
    ]
    return Baseline(
        count=count,
        refined=len(found[0].images),
        spread=plausible_hu,
        plausible=plausible,
        own=plausible_spread(own, seed=seed, region=region)[1],
        proposed=(proposals[0], proposals[1]) if len(proposals) == 2 else None,
        certified=sample_spread([one.samples for one in found], seed=seed, region=region)
        if count >= 2
        else None,
        fiber_error_before=root_mean_square([one.certificates.before for one in found], seed=seed),
        moved=root_mean_square([one.certificates.moved for one in found], seed=seed),
    )
