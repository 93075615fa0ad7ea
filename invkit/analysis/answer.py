"""What is found of a layer without any model: its tolerance, draws of the posterior, structures, and two controls."""

__all__ = ["Answer", "eta_of", "find_answer", "plausibility", "random_weights"]

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from invkit.analysis.study import Study
from invkit.certificates.certify import Certified, certified_draws
from invkit.errors import SplitError
from invkit.measures.structures.differences import KeptByF, measure_differences
from invkit.measures.structures.summary import Structures
from invkit.sampling.layer import ScaledLayer
from invkit.split.split import Split
from invkit.tolerance.layer import TolerancedLayer
from invkit.training.precision import in_float64
from invkit.verdict.conclusion import NONE_ASKED
from invkit.verdict.measures import RandomWeights
from invkit.verdict.structures import StructuresFound


@dataclass(frozen=True)
class Answer:
    """What needs no model: the layer with its tolerance, draws, structures.

    Args:
        layers: the layer at each image; empty where that could not be measured.
        certified: draws of the posterior at each image; empty where nothing was drawn.
        structures: what becomes of them and of noise; `None` where that could not be measured.
        undrawn: why nothing was drawn, or nothing.
        kept: what f keeps by its differences, where it passes no gradient.
    """

    layers: Sequence[TolerancedLayer] = ()
    certified: Sequence[Certified] = ()
    structures: Structures | None = None
    undrawn: str = ""
    kept: KeptByF | None = None

    @property
    def found(self) -> StructuresFound | None:
        """What the conclusion is drawn from; `None` where structures could not be measured."""
        return None if self.structures is None else self.structures.found


def find_answer(study: Study, layer: ScaledLayer, *, trained: bool, branch: bool) -> Answer:
    """Measure what needs no model, and what becomes of it at the output where the layer is a branch."""
    if layer.eta == 0:
        return Answer(
            undrawn="this control gives the same z for all images"
            if trained
            else "this layer gives the same z for all images, so no image differs from x in it"
        )
    try:
        layers = study.toleranced(layer)
        draws = study.drawn(layers)
        structures = study.structures(layers, draws)
    except SplitError:
        if layer.split.layer != "output":
            return Answer(undrawn="no gradient of this layer reaches the image")
        kept = measure_differences(study.identities(), seed=study.seed)
        return Answer(undrawn="f passes no gradient to the image", kept=kept)
    pairs = zip(draws, layers, study.subject.x.split(1), strict=False)
    certified = [certified_draws(one, at, x, study.denoiser, branch=branch) for one, at, x in pairs]
    return Answer(layers, certified, structures, "" if draws else NONE_ASKED)


def eta_of(layers: Sequence[TolerancedLayer], scale: float) -> float:
    """Return the distance of two scans of the images at hand, in units of s_Phi."""
    squares = []
    for layer in layers:
        units = layer.windows.unit.s
        total = sum(float(in_float64(part).square().sum()) for part in units)
        squares.append(total / sum(part.numel() for part in units))
    return float(math.sqrt(sum(squares) / len(squares))) / scale


def random_weights(
    study: Study, layer: ScaledLayer, answer: Answer
) -> tuple[dict[str, Any], RandomWeights | None]:
    """Return the figures of the layer with random weights, and what hides from it."""
    control, x = study.randomised, study.subject.x
    drawn = control.drawn(
        layer.split.layer,
        x,
        layer.pixel_scale,
        samples=study.sampling.samples,
        seed=study.seed,
        region=study.subject.region,
    )
    if not answer.certified:
        return drawn or {"unavailable": answer.undrawn or "nothing was drawn"}, None
    figures, hidden = control.hidden(answer.layers, Split(study.denoiser, "input"), seed=study.seed)
    return {**drawn, **figures}, hidden


def plausibility(study: Study) -> tuple[dict[str, Any], list[str]]:
    """Return where x stands among held-out images, and a sentence where it is unlike them."""
    outside = [one for one in study.placed if not one.inside]
    first = (outside or study.placed)[0]
    if not outside:
        return first.figures(), []
    return first.figures(), [
        f"x itself lies outside 1 to 99 % of held-out low-dose images ({first.images}) in {', '.join(first.unlike)}: what rests on "
        "priors of such images, the published model's samples first of all, may not hold for it. Certificates, contrast and "
        "detectability do not rest on them."
    ]
