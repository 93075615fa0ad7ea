"""The figures of refinement onto the fiber: what is certified, and what the baseline came to beside it."""

__all__ = ["certification_figures"]

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from invkit.certificates.baseline import baseline_figures, plausible_spread
from invkit.certificates.certify import Certified
from invkit.certificates.curve import curve_figures
from invkit.certificates.judge import plausible_figures
from invkit.images.region import Region
from invkit.sampling.layer import allowed_spread
from invkit.sampling.spread import root_mean_square, sample_spread
from invkit.statistics.intervals import Interval
from invkit.verdict.measures import Baseline, Certification


def certification_figures(
    certified: Sequence[Certified],
    free: Sequence[Certified],
    *,
    pixel_scale: float,
    seed: int,
    region: Region | None = None,
) -> tuple[dict[str, Any] | None, Certification | None]:
    """Return what refinement found, for the JSON and for the verdict.

    Args:
        certified: the refined samples of each image; nothing is returned for none.
        free: refined training-free proposals of each image, the baseline; empty where they are what is measured.
        pixel_scale: s_Phi of the `input` control, HU.
        seed: of the bootstrap.
        region: which pixels count; all by default.
    """
    if not certified:
        return None, None
    count = min(len(one.samples) for one in certified)
    refined = len(certified[0].images)
    epsilon = certified[0].certificates.epsilon
    part = 1.0 if region is None else region.part
    allowed = allowed_spread(epsilon, pixel_scale, count, part)

    def rms(values: Sequence[Tensor]) -> float | dict[str, float] | None:
        return root_mean_square(values, seed=seed).to_json()

    proof: dict[str, Any] = {
        "count": count,
        "refined": refined,
        "epsilon": epsilon,
        "spread_epsilon_hu": allowed,
        "proposal_spread_hu": sample_spread(
            [one.proposals for one in certified], seed=seed, region=region
        ).to_json()
        if refined >= 2
        else None,
        "retreated": max(one.retreated for one in certified),
        "fiber_error_before": rms([one.certificates.before for one in certified]),
        "fiber_error": rms([one.certificates.after for one in certified]),
        "moved_hu": rms([one.certificates.moved for one in certified]),
    }
    spread = f_error = None
    if count >= 2:
        spread = sample_spread([one.samples for one in certified], seed=seed, region=region)
        f_error = root_mean_square([one.f_error[one.certificates.holds] for one in certified], seed=seed)
        proof["spread_hu"] = spread.to_json()
        proof["f_error_hu"] = f_error.to_json()
    proof["curve"] = curve_figures(
        [one.curve for one in certified], pixel_scale=pixel_scale, seed=seed, part=part
    )
    outside, real, traits = None, "", ()
    placed = [one.placed for one in certified if one.placed is not None]
    if placed:
        proof["plausible"] = plausible_figures(placed, [one.certificates.holds for one in certified])
        outside, real, traits = (proof["plausible"][name] for name in ("outside", "images", "traits"))
    beside = None
    figures, free_spread = baseline_figures(free, seed=seed, region=region)
    if figures is not None:
        _, own = plausible_spread(certified, seed=seed, region=region)
        both = [figures.get("proposal_spread_hu"), proof["proposal_spread_hu"]]
        proposed = None if None in both else (Interval.of(both[0]), Interval.of(both[1]))
        beside = Baseline(
            figures["count"], figures["refined"], free_spread, figures["plausible"], own, proposed
        )
        proof["plausible_spread_hu"] = None if own is None else own.to_json()
        proof["training_free"] = {**figures, "beaten": beside.beaten}
    return proof, Certification(
        count,
        refined,
        epsilon,
        allowed,
        spread,
        f_error,
        beside,
        outside,
        proof["retreated"],
        real,
        tuple(traits),
    )
