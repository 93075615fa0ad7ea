"""What refinement onto the fiber found: what is certified, and what the baseline came to beside it."""

__all__ = ["certification"]

from collections.abc import Sequence

from torch import Tensor

from invkit.certificates.baseline import baseline_found
from invkit.certificates.certify import Certified
from invkit.certificates.curve import curve_figures
from invkit.certificates.judge import plausible_figures
from invkit.images.region import Region
from invkit.sampling.layer import allowed_spread
from invkit.sampling.spread import root_mean_square, sample_spread
from invkit.statistics.intervals import Interval
from invkit.verdict.measures import Certification


def certification(
    certified: Sequence[Certified],
    free: Sequence[Certified],
    *,
    pixel_scale: float,
    seed: int,
    region: Region | None = None,
) -> Certification | None:
    """Return the results of refinement; `None` where nothing was refined.

    Args:
        certified: the refined samples of each image.
        free: refined training-free proposals of each image, the baseline; empty where they are what is measured.
        pixel_scale: s_Phi of the `input` control, HU.
        seed: of the bootstrap.
        region: which pixels spreads count; all by default.
    """
    if not certified:
        return None
    part = 1.0 if region is None else region.part
    count = min(len(one.samples) for one in certified)
    refined, epsilon = len(certified[0].images), certified[0].certificates.epsilon
    placed = [one.placed for one in certified if one.placed is not None]
    plausible = plausible_figures(placed, [one.certificates.holds for one in certified]) if placed else None

    def rms(values: Sequence[Tensor]) -> Interval:
        return root_mean_square(values, seed=seed)

    def spread(images: Sequence[Tensor], enough: int) -> Interval | None:
        return sample_spread(images, seed=seed, region=region) if enough >= 2 else None

    return Certification(
        count=count,
        refined=refined,
        epsilon=epsilon,
        allowed=allowed_spread(epsilon, pixel_scale, count, part),
        spread=spread([one.samples for one in certified], count),
        f_error=rms([one.f_error[one.certificates.holds] for one in certified]) if count >= 2 else None,
        baseline=baseline_found(free, certified, seed=seed, region=region),
        outside=None if plausible is None else plausible["outside"],
        retreated=max(one.retreated for one in certified),
        real="" if plausible is None else plausible["images"],
        traits=() if plausible is None else tuple(plausible["traits"]),
        proposed=spread([one.proposals for one in certified], refined),
        fiber_error_before=rms([one.certificates.before for one in certified]),
        fiber_error=rms([one.certificates.after for one in certified]),
        moved=rms([one.certificates.moved for one in certified]),
        curve=tuple(
            curve_figures([one.curve for one in certified], pixel_scale=pixel_scale, seed=seed, part=part)
        ),
        plausible=plausible,
    )
