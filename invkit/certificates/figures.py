"""What is known of the images of a layer that have certificates, over all images under test."""

__all__ = ["at_output", "certification"]

from collections.abc import Sequence

import torch
from torch import Tensor

from invkit.certificates.certify import CHANGE, F_CHANGE, Certified, fewest
from invkit.images.region import Region
from invkit.sampling.spread import root_mean_square, sample_spread
from invkit.statistics.intervals import Interval
from invkit.tolerance.frame import LEAST_INTERIOR
from invkit.verdict.branch import BranchFound
from invkit.verdict.measures import Certification


def certification(
    found: Sequence[Certified],
    *,
    seed: int,
    region: Region | None = None,
    proposals: Sequence[Tensor] = (),
) -> Certification | None:
    """Return what is known of certified images; `None` where there are none to be told of.

    Spreads are those within the frame; there are none of fewer than two images, or where too little is within it.

    Args:
        found: of each image under test.
        seed: of the bootstrap.
        region: which pixels spreads count; all within the frame by default.
        proposals: of each image what was refined, `(K, 1, H, W)`, HU; none where nothing was.
    """
    if not found:
        return None
    count = fewest(found)
    counted = [_counted(one, region) for one in found]

    def spread(images: Sequence[Tensor], enough: int) -> Interval | None:
        if enough < 2 or not all(bool(pixels.any()) for pixels in counted):
            return None
        parts = [one[..., pixels].unsqueeze(-2) for one, pixels in zip(images, counted, strict=True)]
        return sample_spread(parts, seed=seed)

    def rms(values: Sequence[Tensor]) -> Interval:
        return root_mean_square(values, seed=seed)

    before = [one.details.get("distance_before") for one in found]
    return Certification(
        count=count,
        refined=len(found[0].images),
        tolerance=sum(one.tolerance for one in found) / len(found),
        spread=spread([one.samples for one in found], count),
        f_error=rms([one.f_error[one.holds] for one in found]) if count >= 2 else None,
        distance=rms([one.distances for one in found]),
        moved=rms([one.moved for one in found]),
        proposed=spread(proposals, len(proposals[0])) if proposals else None,
        distance_before=rms([one for one in before if one is not None]) if proposals else None,
        retreated=max(_retreated(one) for one in found),
        rejected=sum(one.rejected for one in found),
        changed=max((one.changed for one in found), key=abs),
    )


def at_output(found: Sequence[Certified], leak: float, *, seed: int) -> BranchFound:
    """Return what becomes at the output of what a branch does not tell from x, by its certified images.

    Args:
        found: of each image under test, with what was measured at the output.
        leak: share of the change of f(x) that goes round the layer.
        seed: of the bootstrap.
    """
    changes, at_f = (
        [one.details[name][one.holds] for one in found if name in one.details] for name in (CHANGE, F_CHANGE)
    )
    if sum(len(rows) for rows in changes) == 0:
        return BranchFound(leak)
    return BranchFound(leak, root_mean_square(changes, seed=seed), root_mean_square(at_f, seed=seed))


def _counted(one: Certified, region: Region | None) -> Tensor:
    """Return which pixels count, `(H, W)`; none where the frame leaves too few."""
    pixels = torch.zeros(one.images.shape[-2:], dtype=torch.bool)
    if min(part.stop - part.start for part in one.interior) >= LEAST_INTERIOR:
        pixels[one.interior] = True
    return pixels if region is None else pixels & region.mask


def _retreated(one: Certified) -> int:
    share = one.details.get("proposal_share")
    return 0 if share is None else int((one.holds & (share < 1)).sum())
