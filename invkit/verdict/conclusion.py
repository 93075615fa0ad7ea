"""One sentence on a layer, by rules: what hides from it, or why that cannot be said (`docs/rules.md`).

Not interpretable
    Any of these is a reason: nothing was drawn; fewer than 8 draws are certified; the frame leaves too little of the image; what
    was solved for did not converge. None of them is about a model: what hides from a layer rests on the denoiser and on the
    noise.
Structures
    Where the layer hides a disc that is stronger than what the image itself hides at the same tolerance, by more than 1.3 times,
    it is said of the size where that is most. The tolerance alone explains the rest.
Noise
    The same for noise of the image's dose.
"""

__all__ = ["Conclusion", "conclude"]

from dataclasses import dataclass
from typing import Any

from invkit.statistics.intervals import number
from invkit.verdict.measures import Measures
from invkit.verdict.rules import ENOUGH_FOR_A_MAP, too_few
from invkit.verdict.structures import StructuresFound


@dataclass(frozen=True)
class Conclusion:
    """The sentence, and why it may not be more.

    Args:
        text: for people.
        interpretable: whether all that it rests on holds.
        reasons: why not; empty where it is.
        anatomy: whether the layer hides structures beyond what the tolerance explains; `None` where none could be tried.
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


def conclude(measures: Measures, found: StructuresFound | None, undrawn: str) -> Conclusion | None:
    """Return what can be said of a layer, by the rules at the top of this module; `None` for a control.

    Args:
        measures: the figures of the layer.
        found: what becomes of structures and noise; `None` where that could not be measured.
        undrawn: why no images were drawn, or nothing.
    """
    if measures.control is not None:
        return None
    reasons = _reasons(measures, found, undrawn)
    said = "" if found is None else _said(measures.layer, found)
    if not reasons:
        text = f"In short: {said}."
    elif said:
        text = f"In short: not interpretable, because {'; '.join(reasons)}. What was measured: {said}."
    else:
        text = f"In short: not interpretable, because {'; '.join(reasons)}."
    return Conclusion(text, not reasons, tuple(reasons), None if found is None else found.hides_structures)


def _reasons(measures: Measures, found: StructuresFound | None, undrawn: str) -> list[str]:
    reasons = [undrawn] if undrawn else []
    drawn = measures.certification
    if drawn is not None and drawn.count < ENOUGH_FOR_A_MAP:
        why, needed = too_few(drawn)
        reasons.append(f"{why}, and at least {needed} are needed")
    if found is not None and found.needed is not None:
        reasons.append(
            f"padding reaches too far into the image for a spread: that needs {found.needed} pixels a side"
        )
    if found is not None and not found.converged:
        reasons.append("the layer is nearly singular, and not all figures converged")
    return reasons


def _said(layer: str, found: StructuresFound) -> str:
    parts = []
    if (most := found.worst) is not None:
        if found.hides_structures:
            parts.append(
                f"{layer} hides discs of up to {number(most.hidden)} HU at radius {number(most.radius)} px, where the tolerance "
                f"explains {number(most.hidden_image)} HU"
            )
        else:
            parts.append(f"{layer} hides no more of a disc than the tolerance explains")
    if found.hidden is not None and found.hidden_image is not None:
        if found.hides_noise:
            parts.append(
                f"{number(found.hidden)} HU of the {number(found.noise)} HU of dose noise hide from it "
                f"({number(found.hidden_image)} HU is what the tolerance explains)"
            )
        else:
            parts.append(
                f"of the {number(found.noise)} HU of dose noise, {number(found.hidden)} HU hide from it, no more than the "
                "tolerance explains"
            )
    return "; ".join(parts) or f"there was no place for a structure, and no noise was drawn for {layer}"
