"""Two oracles with nothing to refine: one has no gradient, the other no fiber."""

__all__ = ["check_injective", "check_quantiser"]

import torch
from torch import Tensor

from invkit.denoisers.oracles.oracle import STEP
from invkit.denoisers.oracles.planted import CONTRACTION
from invkit.errors import SplitError
from invkit.fiber.distance import activation_distance
from invkit.split.split import Split
from invkit.validate.rows import Row, Seeds, certified
from invkit.validate.trial import SAMPLES, Trial

SIZE = 16
NOISE = 30.0  # HU, of proposals
BLOCKS = 2


def check_quantiser(split: Split, seeds: Seeds) -> list[Row]:
    """Return whether proposals within the cell are certified, all others are not, and none is moved."""
    trial = Trial.of(split, seeds, SIZE)
    cell = (trial.x / STEP).round()
    shift = torch.rand(2 * SAMPLES, 1, SIZE, SIZE, generator=seeds.generator("shift")) - 0.5
    # Half of them anywhere in the cell, half a little beyond it.
    widths = torch.tensor([0.999, 1.05]).repeat_interleave(SAMPLES).view(-1, 1, 1, 1)
    proposals = (cell + widths * shift) * STEP
    inside = ((proposals / STEP).round() == cell).flatten(1).all(1)
    holds, moved = _certify(trial, proposals)
    right = (holds == inside) & (moved == 0)
    spread = float((proposals - trial.x)[inside].square().mean().sqrt())
    return [
        Row(
            "quantiser",
            "share of the proposals that are certified if and only if they lie in the cell "
            f"({spread:.1f} HU); no gradient, so none is refined",
            float(right.double().mean()),
            1.0,
            ">=",
        )
    ]


def _certify(trial: Trial, proposals: Tensor) -> tuple[Tensor, Tensor]:
    """Return which proposals are certified, and how far each was moved before, HU."""
    try:
        found = trial.refine(proposals).certificates
    except SplitError:
        distance = activation_distance(trial.split.phi(proposals), trial.split.phi(trial.x))
        return distance <= trial.epsilon, torch.zeros(len(proposals))
    return found.holds, found.moved


def check_injective(split: Split, seeds: Seeds) -> list[Row]:
    """Return how far certified samples are from the image: no further than epsilon times the network's condition allows."""
    trial = Trial.of(split, seeds, SIZE)
    found = trial.refine(trial.x + NOISE * seeds.randn(SAMPLES, 1, SIZE, SIZE, path="noise"))

    def change(rows: Tensor) -> float:
        return float((found.images[rows] - trial.x).flatten(1).double().square().mean(1).sqrt().max())

    bound = trial.epsilon / (1 - CONTRACTION) ** BLOCKS
    measure = f"largest change of certified samples, HU, of proposals with {NOISE:g} HU of noise"
    return [Row("injective", measure, certified(found, change), bound)]
