"""One sentence on a layer, by rules: what is invisible to it, or why that cannot be said (`docs/verdict.md`).

Not interpretable
    Any of these is a reason: nothing was refined; fewer than 8 samples are certified; the image is out of distribution; the
    order of fiber errors or the likelihoods are out of order; the representation is incomplete. The last four are about the
    models that proposals come from. A certificate needs none of them, so what was certified is said all the same.
Noise
    What noise of the dose explains of the certified differences. It is called invisible where it exceeds what epsilon
    alone allows. Of large images both are those of a window, where all of the image's tolerance may have been spent.
Anatomy
    A change is called found where a certified image holds a structure with more contrast than the tolerance allows, and
    either more than two scans differ by there in 95 % of all cases, or more than half of what was proposed. Power of the
    certified differences beyond noise is called found where it exceeds its floor beyond both intervals, and what epsilon
    alone allows.
Both figures are lower bounds: other proposals may show more.
"""

__all__ = ["INCOMPLETE", "ChangeFound", "Conclusion", "Evidence", "conclude", "lost_power"]

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from invkit.images.bands import radial_bands
from invkit.statistics.intervals import Interval, number
from invkit.verdict.measures import Measures
from invkit.verdict.rules import (
    ENOUGH_FOR_A_MAP,
    distribution_warning,
    likelihood_faults,
    order_faults,
    too_few,
)

INCOMPLETE = 0.5  # of the power beyond noise that the representation may lose in a band
COARSE = 2  # bands, of ten up to 0.5 cycles per pixel: structures of 10 pixels and more


@dataclass(frozen=True)
class ChangeFound:
    """The change of anatomy of which most is left.

    Args:
        label: what was changed.
        left: contrast left in a certified image, HU; of those that do not count as found the most.
        proposed: as proposed, HU.
        allowed: what the tolerance alone allows, HU.
        scans: what two scans differ by there in 95 % of all cases, HU.
        found: whether it counts.
    """

    label: str
    left: float
    proposed: float
    allowed: float
    scans: float
    found: bool


@dataclass(frozen=True)
class Evidence:
    """What a conclusion is drawn from, besides the figures of the verdict.

    Args:
        unrefined: why nothing was refined, or nothing.
        noise: noise that is invisible to the layer, HU.
        allowed: what epsilon alone allows of it, HU.
        change: the strongest change that was left, `None` where none was certified.
        certified: images with another anatomy that were certified.
        tried: images with another anatomy that were refined.
        beyond: what certified samples differ by beyond noise, HU, where it counts as found.
        lost: share of the power beyond noise that the representation loses of coarse structures, `None` where unknown.
        window: rows and columns of the part of the image that all this is of, `None` for all of it.
    """

    unrefined: str = ""
    noise: Interval | None = None
    allowed: float = 0.0
    change: ChangeFound | None = None
    certified: int = 0
    tried: int = 0
    beyond: Interval | None = None
    lost: float | None = None
    window: tuple[int, int] | None = None


@dataclass(frozen=True)
class Conclusion:
    """The sentence, and why it may not be more.

    Args:
        text: for people.
        interpretable: whether all that it rests on holds.
        reasons: why not; empty where it is.
        anatomy: whether a change of anatomy was found that the layer does not see; `None` where none could be tried.
    """

    text: str
    interpretable: bool
    reasons: tuple[str, ...]
    anatomy: bool | None

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "text": self.text,
            "interpretable": self.interpretable,
            "reasons": list(self.reasons),
            "anatomy_found": self.anatomy,
        }


def lost_power(x: Tensor, reconstruction: Tensor, scans: Tensor) -> float:
    """Return the largest share of the power beyond noise that a reconstruction loses, of structures of 10 pixels and more.

    In each radial band below 0.1 cycles per pixel it is `max(0, R - N) / (X - N)`: R, X and N are the power of x less its
    reconstruction, of x, and of noise; 0 where x holds nothing but noise.

    Args:
        x: image, `(1, 1, H, W)`, HU; at least 20 pixels a side.
        reconstruction: D(E(x)), the same shape.
        scans: differences of two noise realisations, `(m, 1, H, W)`, HU.
    """
    power, rest, noise = (
        radial_bands(images, window=True).cpu().double().mean(0).numpy()[:COARSE]
        for images in (x, x - reconstruction, scans)
    )
    noise = noise / 2
    signal = power - noise
    share = np.where(signal > 0, np.maximum(rest - noise, 0) / np.maximum(signal, 1e-12), 0.0)
    return float(share.max())


def conclude(measures: Measures, evidence: Evidence) -> Conclusion | None:
    """Return what can be said of a layer, by the rules at the top of this module; `None` for a control."""
    if measures.control is not None:
        return None
    reasons = _reasons(measures, evidence)
    proven = [] if evidence.unrefined else _proven(measures.layer, evidence)
    found = measures.certification
    if found is not None:
        proven.append(f"{found.count} of {found.refined} refined samples are certified")
    said = "; ".join(proven)
    bound = " Both are lower bounds: they hold for the images that were tried, and others may show more."
    if not reasons:
        text = f"In short: {said}.{bound}"
    elif found is not None and found.count and said:
        text = (
            f"In short: not interpretable, because {'; '.join(reasons)}. What is certified still holds, since a "
            f"certificate rests on the denoiser alone: {said}.{bound}"
        )
    else:
        text = f"In short: not interpretable, because {'; '.join(reasons)}."
    return Conclusion(text, not reasons, tuple(reasons), _anatomy(evidence))


def _anatomy(evidence: Evidence) -> bool | None:
    if evidence.beyond is not None or (evidence.change is not None and evidence.change.found):
        return True
    return False if evidence.change is not None else None


def _reasons(measures: Measures, evidence: Evidence) -> list[str]:
    found = measures.certification
    reasons = []
    if evidence.unrefined:
        reasons.append(evidence.unrefined)
    elif found is None:
        reasons.append(f"no refined sample is certified, and at least {ENOUGH_FOR_A_MAP} are needed")
    elif found.count < ENOUGH_FOR_A_MAP:
        why, needed = too_few(found)
        reasons.append(f"{why}, and at least {needed} are needed")
    error, limit = measures.vae_rmse, measures.vae_limit
    if error is not None and limit is not None and distribution_warning(error, limit) is not None:
        reasons.append("the image is out of distribution")
    if measures.domain == "low" and not measures.proposals and order_faults(measures.fiber_error):
        reasons.append("the fiber errors of samples, controls and references are out of order")
    if likelihood_faults(measures.nll):
        reasons.append("the likelihoods are out of order")
    if evidence.lost is not None and evidence.lost > INCOMPLETE:
        reasons.append(
            f"the representation is incomplete: it loses {100 * evidence.lost:.0f} % of the power beyond noise in "
            "structures of 10 pixels and more"
        )
    return reasons


def _proven(layer: str, evidence: Evidence) -> list[str]:
    noise = evidence.noise
    if noise is not None and noise.above(Interval(evidence.allowed)):
        first = f"noise of up to {number(noise.value)} HU is invisible to {layer}"
    else:
        first = (
            f"no noise beyond the {number(evidence.allowed)} HU that epsilon alone allows was found to be invisible to "
            f"{layer}"
        )
    if evidence.window is not None:
        first = f"in a window of {evidence.window[0]} x {evidence.window[1]} pixels {first}"
    said = [first]
    if evidence.beyond is not None:
        said.append(
            f"an anatomical change was found that it does not see: certified samples differ by {number(evidence.beyond.value)} HU "
            "that noise of this dose does not explain"
        )
    change = evidence.change
    of_window = "" if evidence.window is None else " of that window"
    if change is None:
        said.append(f"no image{of_window} with altered anatomy could be certified")
    elif change.found:
        said.append(
            f"an anatomical change was found that it does not see: {change.label} keep {number(change.left)} of "
            f"{number(change.proposed)} HU (the tolerance alone allows {number(change.allowed)} HU, two scans differ there "
            f"by up to {number(change.scans)} HU)"
        )
    else:
        said.append(
            f"of the structures that were inserted, removed or moved, at most {number(change.left)} HU remained in "
            f"{evidence.certified} certified images{of_window} with altered anatomy"
        )
    return said
