"""The sampler `training-free`: f(x) plus noise with the spectrum of x - f(x), which says nothing before it is refined."""

__all__ = ["TrainingFree"]

from collections.abc import Sequence

from torch import Tensor

from invkit.data.patches import Domain
from invkit.parts.workshop import Workshop
from invkit.samplers.family import Family
from invkit.sampling.base import ImageDraws
from invkit.sampling.layer import Target
from invkit.sampling.training_free import training_free
from invkit.split.split import Split


class TrainingFree(Family):
    """Proposals for any layer of any network; the same for all layers until they are refined."""

    def find(self, split: Split, domain: Domain, workshop: Workshop) -> "TrainingFree":
        """Return this: there is nothing to be trained."""
        return self

    def draws(self, target: Target) -> ImageDraws:
        """Return what draws proposals around an image."""

        def draw(seed: int, image: int, indices: Sequence[int]) -> Tensor:
            return training_free(target.x, target.f_x, seed=seed, image=image, indices=indices)

        return draw
