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

__all__ = ["NONE_ASKED", "Conclusion", "conclude", "over_layers", "over_slices"]

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from invkit.statistics.intervals import number
from invkit.verdict.measures import Measures
from invkit.verdict.rules import ENOUGH_FOR_A_MAP, too_few
from invkit.verdict.structures import StructuresFound

SHORT = "In short: "
NONE_ASKED = "no images were asked for"
MORE_DRAWS = "draw 16 images, `--refine 16`"
OTHER_LAYER = "choose another layer: `invkit layers MODEL` lists them"
WHAT = {
    "structures and noise": (True, True),
    "structures": (True, False),
    "noise, but no disc,": (False, True),
}  # that a layer may hide, and whether structures and noise were found
NOISELESS = 0.2  # HU: an image with less has none of its own
WITH_NOISE = "analyse an image with its noise, or tell of it with `--noise-scans`"
EARLIER = "choose a layer further ahead; certificates, contrast and noise at the output hold for this one too"


@dataclass(frozen=True)
class Conclusion:
    """The sentence, and why it may not be more.

    Args:
        text: for people.
        interpretable: whether all that it rests on holds.
        reasons: why not; empty where it is.
        anatomy: whether the layer hides structures beyond what the tolerance explains; `None` where none could be tried.
        noise: the same for noise of the image's dose; `None` where none was drawn.
        advice: what to do where it is not interpretable.
        asked: sentences on what was asked for: a marked structure, a branch.
    """

    text: str
    interpretable: bool
    reasons: tuple[str, ...]
    anatomy: bool | None
    noise: bool | None = None
    advice: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()

    @property
    def answer(self) -> tuple[str, ...]:
        """What a reader reads first."""
        short = self.text.removeprefix(SHORT)
        advice = [f"What to do: {'; '.join(self.advice)}."] if self.advice else []
        return (short[:1].upper() + short[1:], *advice, *self.asked)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "text": self.text,
            "interpretable": self.interpretable,
            "reasons": list(self.reasons),
            "anatomy_found": self.anatomy,
            "noise_found": self.noise,
            "advice": list(self.advice),
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
    found_reasons = _reasons(measures, found, undrawn)
    reasons = [why for why, _ in found_reasons]
    said = "" if found is None else _said(measures.layer, found)
    if not reasons:
        text = f"{SHORT}{said}."
    elif said:
        text = f"{SHORT}not interpretable, because {'; '.join(reasons)}. What was measured: {said}."
    else:
        text = f"{SHORT}not interpretable, because {'; '.join(reasons)}."
    return Conclusion(
        text,
        not reasons,
        tuple(reasons),
        None if found is None else found.hides_structures,
        None if found is None else found.hides_noise,
        tuple(dict.fromkeys(advice for _, advice in found_reasons)),
    )


def listed(words: Sequence[str]) -> str:
    """Return words as a list in a sentence, such as `1, 3 and 5`."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def over_layers(conclusions: Mapping[str, Conclusion]) -> str:
    """Return one sentence over several layers.

    Args:
        conclusions: by the layers' names, in the order in which they run; without controls.
    """

    def named(layers: Sequence[str]) -> str:
        inner = [name for name in layers if name != "output"]
        said = [f"layer{'s' if len(inner) > 1 else ''} {listed(inner)}"] if inner else []
        return listed([*said, *(["the output"] if len(inner) < len(layers) else [])])

    usable = {name: one for name, one in conclusions.items() if one.interpretable}
    hiding = {
        what: [name for name, one in usable.items() if (bool(one.anatomy), bool(one.noise)) == found]
        for what, found in WHAT.items()
    }
    said = [
        f"{named(layers)} hide{'' if len(layers) > 1 else 's'} {what} beyond what the tolerance explains"
        for what, layers in hiding.items()
        if layers
    ]
    nothing = [name for name, one in usable.items() if not one.anatomy and not one.noise]
    if nothing and said:
        said.append(f"{named(nothing)} nothing beyond it")
    elif nothing:
        said.append(
            f"{named(nothing)} hide{'' if len(nothing) > 1 else 's'} nothing beyond what the tolerance explains"
        )
    lost = [name for name in conclusions if name not in usable]
    if lost:
        said.append(f"{named(lost)} {'are' if len(lost) > 1 else 'is'} not interpretable")
    text = "; ".join(said)
    return f"{text[:1].upper()}{text[1:]}."


def over_slices(layer: str, conclusions: Sequence[Mapping[str, Any]]) -> str:
    """Return what several slices come to for one layer.

    Args:
        layer: as the user named it.
        conclusions: of every slice, as JSON values.
    """
    usable = [one for one in conclusions if one["interpretable"]]
    text = f"Layer {layer}: {len(usable)} of {len(conclusions)} slices are interpretable"
    reasons = Counter(reason for one in conclusions for reason in one["reasons"])
    if reasons:
        text += f", because {'; '.join(f'{reason} ({count})' for reason, count in reasons.most_common())}"
        advice = dict.fromkeys(advice for one in conclusions for advice in one["advice"])
        text += f". What to do: {'; '.join(advice)}"
    if usable:
        discs, noise = (sum(one[key] is True for one in usable) for key in ("anatomy_found", "noise_found"))
        text += (
            f". Of these, {discs or 'none'} hide{'s' if discs == 1 else ''} a disc and {noise or 'none'} hide"
            f"{'s' if noise == 1 else ''} noise beyond what the tolerance explains"
        )
    return f"{text}."


def _reasons(measures: Measures, found: StructuresFound | None, undrawn: str) -> list[tuple[str, str]]:
    """Return why a layer is not interpretable, each with what to do."""
    reasons = [(undrawn, MORE_DRAWS if undrawn == NONE_ASKED else OTHER_LAYER)] if undrawn else []
    drawn = measures.certification
    if drawn is not None and drawn.count < ENOUGH_FOR_A_MAP:
        why, needed = too_few(drawn)
        reasons.append((f"{why}, and at least {needed} are needed", MORE_DRAWS))
    if found is not None and found.needed is not None:
        reasons.append(
            (
                f"padding reaches too far into the image for a spread: that needs {found.needed} pixels a side",
                f"analyse an image of at least {found.needed} x {found.needed} pixels",
            )
        )
    if found is not None and found.noise < NOISELESS:
        reasons.append(("x holds no noise, and what hides is weighed by it", WITH_NOISE))
    if found is not None and not found.converged:
        reasons.append(("the layer is nearly singular, and not all figures converged", EARLIER))
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
