"""A planted band and a planted region: where certified samples vary is where the oracle is blind, and nowhere else."""

__all__ = ["check_band", "check_region"]

from collections.abc import Callable

import torch
from torch import Tensor

from invkit.denoisers.oracles.oracle import BAND, REGION
from invkit.split.split import Split
from invkit.validate.rows import Row, Seeds, certified, overlap
from invkit.validate.trial import SAMPLES, Trial

SIZE = 32
NOISE = 30.0  # HU, of proposals
FREE = 0.5  # a place is free where this share of the proposals' energy survives


def check_band(split: Split, seeds: Seeds) -> list[Row]:
    """Return how much of the certified spread lies in the planted band, and whether the band is found from it."""
    frequency = torch.fft.fftfreq(SIZE, dtype=torch.float64)
    radius = (frequency.square()[:, None] + frequency.square()).sqrt()
    planted = (radius >= BAND[0]) & (radius <= BAND[1])

    def energy(difference: Tensor) -> Tensor:
        power: Tensor = torch.fft.fft2(difference.double()).abs().square()
        return power.mean((0, 1))

    return _rows("planted-band", "band", split, seeds, energy, planted)


def check_region(split: Split, seeds: Seeds) -> list[Row]:
    """Return how much of the certified spread lies in the planted rectangle, and whether it is found from it."""
    top, bottom, left, right = REGION
    place = (torch.arange(SIZE, dtype=torch.float64) + 0.5) / SIZE
    planted = ((place > top) & (place < bottom))[:, None] & (place > left) & (place < right)

    def energy(difference: Tensor) -> Tensor:
        return difference.double().square().mean((0, 1))

    return _rows("planted-region", "rectangle", split, seeds, energy, planted)


def _rows(
    name: str, what: str, split: Split, seeds: Seeds, energy: Callable[[Tensor], Tensor], planted: Tensor
) -> list[Row]:
    """Refine proposals of white noise and compare their energy `(SIZE, SIZE)`, place by place, with what is left of it."""
    trial = Trial.of(split, seeds, SIZE)
    proposals = trial.x + NOISE * seeds.randn(SAMPLES, 1, SIZE, SIZE, path="noise")
    found = trial.refine(proposals)

    def share(rows: Tensor) -> float:
        left = energy(found.images[rows] - trial.x)
        return float(left[planted].sum() / left.sum())

    def agreement(rows: Tensor) -> float:
        free = energy(found.images[rows] - trial.x) > FREE * energy(proposals[rows] - trial.x)
        return overlap(free, planted)

    return [
        Row(
            name, f"share of the certified spread that lies in the {what}", certified(found, share), 0.9, ">="
        ),
        Row(
            f"{name}.found",
            f"overlap of the {what} found with the planted one, intersection over union",
            certified(found, agreement),
            0.9,
            ">=",
        ),
    ]
