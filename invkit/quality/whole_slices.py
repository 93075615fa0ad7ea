"""Whole slices at two doses: with their real low-dose partner where there is one, else with a simulated one."""

__all__ = ["SlicePair", "slice_pairs"]

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from invkit.data.dose.image import simulate_low_dose
from invkit.data.fields import one_realisation
from invkit.data.phantoms.phantom import Phantom, phantom_region
from invkit.data.slices import HU_RANGE, Slice, SliceSet
from invkit.training.seeds import derive_seed, generator

REGION_EXAMS = {"thorax": "C", "abdomen": "L", "pelvis": "L", "head": "N"}


@dataclass(frozen=True)
class SlicePair:
    """One slice at two doses.

    Args:
        x: low dose, shape `(1, 1, H, W)`, float32, HU.
        y: full dose, with its own noise, the same shape.
        exam: type of examination, a key of `invkit.data.exam.EXAMS`; empty where it is not known.
        patient: source and pseudonym.
        number: of the slice among those of the patient, from 0.
        paired: whether x is a real partner and not simulated.
    """

    x: Tensor
    y: Tensor
    exam: str
    patient: tuple[str, str]
    number: int
    paired: bool


def slice_pairs(slices: SliceSet, *, dose: float, seed: int) -> Iterator[SlicePair]:
    """Yield every slice with its low-dose image, one at a time.

    Where there is no real partner, the noise that the lower dose adds is simulated, as the set says how: in the image, or on
    the rays of a scanner. It depends on the seed, the patient and the number of the slice alone.

    Args:
        slices: what to go through.
        dose: of simulated images, as a fraction of the slices' own.
        seed: of the simulated noise.

    Raises:
        UsageError: the dose is not in (0, 1].
    """
    seen: dict[tuple[str, str], int] = {}
    for item in slices.slices:
        patient = (item.source, item.patient)
        number = seen[patient] = seen.get(patient, -1) + 1
        low = item.low_image
        if low is not None:
            y, x = _batch(item.image), _batch(low)
        elif slices.noise == "physical" and dose < 1:
            own, added = one_realisation(item, dose, derive_seed(seed, "whole slices", *patient, number))
            y = _batch(item.image if own is None else np.clip(item.clean + own, *HU_RANGE))
            x = (y + torch.from_numpy(added)).clamp(*HU_RANGE)
        else:
            y = _batch(item.image)
            random = generator(seed, "whole slices", *patient, number)
            x = simulate_low_dose(y, noise=item.noise, dose=dose, generator=random).clamp(*HU_RANGE)
        yield SlicePair(x, y, exam_type(item), patient, number, low is not None)


def exam_type(item: Slice) -> str:
    """Return what was examined: what the data state, and for a phantom what it shows."""
    if not item.exam and isinstance(item.pixels, Phantom):
        return REGION_EXAMS[phantom_region(item.pixels.seed, item.pixels.index)]
    return item.exam


def _batch(image: object) -> Tensor:
    return torch.as_tensor(image, dtype=torch.float32).clone()[None, None]
