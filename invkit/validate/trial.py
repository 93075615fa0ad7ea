"""What the checks by refinement share: an image, a layer's scale, proposals, and the certified samples they become."""

__all__ = ["SAMPLES", "Trial", "field_of"]

from dataclasses import dataclass
from functools import lru_cache

from torch import Tensor

from invkit.fiber.refine import Refined, refine
from invkit.fiber.scale import activation_scale
from invkit.split.split import Split
from invkit.validate.gaussian import GaussianField
from invkit.validate.rows import Seeds

SAMPLES = 16
EPSILON = 1e-4  # of the layer's scale
PATCHES = 32


@lru_cache(maxsize=2)
def field_of(size: int) -> GaussianField:
    """Return the Gaussian field of this size; the same one for all checks."""
    return GaussianField(size)


@dataclass(frozen=True)
class Trial:
    """An image at a layer, and how near to its activation a sample has to come.

    Args:
        split: the layer.
        x: the image, `(1, 1, size, size)`, HU.
        epsilon: units of the activation.
    """

    split: Split
    x: Tensor
    epsilon: float

    @classmethod
    def of(cls, split: Split, seeds: Seeds, size: int) -> "Trial":
        """Take a Gaussian image of this size, and 1e-4 of the layer's scale for epsilon."""
        field = field_of(size)
        patches = field.draw(PATCHES, seeds.generator("patches"))
        return cls.at(split, field.draw(1, seeds.generator("image")), patches, seeds, EPSILON)

    @classmethod
    def at(cls, split: Split, x: Tensor, patches: Tensor, seeds: Seeds, relative: float) -> "Trial":
        """Take this part of the layer's scale for epsilon, as the patches show it."""
        scale = activation_scale(split.phi, patches, 2 * PATCHES, seed=seeds.number("pairs"))
        return cls(split, x, relative * scale)

    def refine(self, proposals: Tensor) -> Refined:
        """Move proposals `(N, 1, size, size)`, HU, onto the fiber of the image."""
        return refine(self.split.phi, self.split.phi_grad, proposals, self.split.phi(self.x), self.epsilon)
