"""What f keeps of contrast and noise, by differences of f alone: all that can be said of one that passes no gradient."""

__all__ = ["KeptByF", "measure_differences"]

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from invkit.measures.structures.inserted import CONTRAST, kept_by_f
from invkit.measures.structures.plan import planned
from invkit.measures.structures.summary import noise_of_f
from invkit.statistics.intervals import number
from invkit.tolerance.layer import TolerancedLayer


@dataclass(frozen=True)
class KeptByF:
    """What f keeps.

    Args:
        contrasts: share of the contrast of a disc of 10 HU, by its radius, pixels; empty where no tissue has a place.
        tissue: where the discs are.
        noise: standard deviation of noise of the image's dose, HU.
        left: what f leaves of it, HU.
    """

    contrasts: Mapping[float, float]
    tissue: str
    noise: float
    left: float

    @property
    def sentence(self) -> str:
        """What is said of it."""
        discs = (
            " and ".join(
                f"{number(100 * self.contrasts[radius])} % of that of discs of radius {number(radius)} px"
                for radius in dict.fromkeys((min(self.contrasts), max(self.contrasts)))
            )
            if self.contrasts
            else ""
        )
        kept = f"It keeps of the contrast {discs} in {self.tissue}, and" if discs else "It"
        return (
            "f passes no gradient to the image, so only its output was measured, by differences of f. "
            f"{kept} leaves {number(self.left)} of {number(self.noise)} HU of dose noise. Which structures and noise hide from it "
            "was not sought, for that needs a gradient."
        )


@torch.no_grad()
def measure_differences(identities: Sequence[TolerancedLayer], *, seed: int) -> KeptByF:
    """Return what f keeps of discs of 10 HU in the commonest tissue, and of noise of the image's dose.

    Args:
        identities: the identity at each image.
        seed: of places and noise.
    """
    found: dict[float, list[Tensor]] = defaultdict(list)
    tissue = ""
    for part in planned(identities, identities, seed)[0]:
        tissue = part.tissue.name
        f = part.layer.split.denoiser
        for shape, _, kept in kept_by_f(part.layer.crops(part.centres), f, part.shapes, (CONTRAST,)):
            found[shape.radius].append(kept)
    before, after = zip(*(noise_of_f(one, seed, image) for image, one in enumerate(identities)), strict=True)
    return KeptByF(
        {radius: float(torch.cat(values).mean()) for radius, values in found.items()},
        tissue,
        *(float(torch.cat([one.flatten() for one in squares]).mean().sqrt()) for squares in (before, after)),
    )
