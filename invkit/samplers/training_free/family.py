"""The sampler `training-free`: images that the layer does not tell from x, weighted by how likely the noise of x makes them."""

__all__ = ["TrainingFree"]

from collections.abc import Sequence

from torch import Tensor

from invkit.data.patches import Domain
from invkit.noise.simulated import noise_of
from invkit.parts.workshop import Workshop
from invkit.posterior.draws import Posterior
from invkit.samplers.family import Family
from invkit.sampling.base import ImageDraws
from invkit.sampling.layer import Target
from invkit.split.split import Split
from invkit.tolerance.layer import TolerancedLayer


class TrainingFree(Family):
    """Draws for any layer of any network, by randomise-then-optimise; an analysis makes them whatever its sampler is."""

    def find(self, split: Split, domain: Domain, workshop: Workshop) -> "TrainingFree":
        """Return this: there is nothing to be trained."""
        return self

    def draws(self, target: Target) -> ImageDraws:
        """Return what draws around an image; S and the tolerance are measured here.

        Raises:
            SplitError: no gradient of the layer reaches the image.
        """
        x = target.x
        layer = TolerancedLayer.of(
            target.split, x, target.f_x, noise_of(x, None), seed=0, tangent=target.layer.tangent
        )
        posterior = Posterior.of(layer)

        def draw(seed: int, image: int, indices: Sequence[int]) -> Tensor:
            drawn = posterior.draw(len(indices), seed=seed, stream=f"posterior {image}", first=indices[0])
            return drawn.images

        return draw
