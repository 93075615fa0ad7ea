"""What every layer of one analysis is measured with."""

__all__ = ["Bench"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from invkit.analysis.subject import Subject
from invkit.certificates.judge import Judge
from invkit.data.dose.image import estimate_noise, noise_texture
from invkit.data.patches import Domain
from invkit.denoisers.loaded import LoadedDenoiser
from invkit.measures.ladder import Controls
from invkit.measures.random_weights import RandomPhi
from invkit.measures.rungs import Yardsticks
from invkit.training.seeds import generator


@dataclass(frozen=True)
class Bench:
    """What every layer of one analysis is measured with.

    Args:
        denoiser: f.
        subject: the images under test.
        controls: the models of `input` and `const`.
        strangers: other held-out images of the same dose and size, `(n, 1, H, W)`, HU.
        reconstruction: D(E(x)), `(B, 1, H, W)`, HU.
        yardsticks: what stands in the ladder besides samples.
        random_phi: the network with weights drawn anew.
        vae_limit: the VAE's 99 % quantile of its own error on held-out patches, HU.
        samples: N.
        seed: of the analysis.
        domain: `"low"` or `"high"`.
        dose: of the low-dose images, as a fraction of the high dose.
        refine: how many draws of each image are refined onto the fiber.
        beside: another denoiser that certified samples are shown to; `None` for none.
        judge: places refined draws among real images; `None` for none.
    """

    denoiser: LoadedDenoiser
    subject: Subject
    controls: Controls
    strangers: Tensor
    reconstruction: Tensor
    yardsticks: Yardsticks
    random_phi: RandomPhi
    vae_limit: float
    samples: int
    seed: int
    domain: Domain
    dose: float
    refine: int = 0
    beside: LoadedDenoiser | None = None
    judge: Judge | None = None

    @property
    def vae_rmse(self) -> Tensor:
        """Error of the VAE's reconstruction of each image, `(B,)`, HU."""
        return (self.reconstruction - self.subject.x).flatten(1).square().mean(1).sqrt()

    def fresh_noise(self, image: int) -> Callable[[Tensor, Sequence[int]], Tensor]:
        """Return a function that adds fresh low-dose noise to high-dose samples of these indices."""
        level = self.subject.noise[image]
        if level == 0:
            # x is taken as it is: of its own noise, high dose would have the part that is left out here.
            level = estimate_noise(self.subject.x[image, 0]) * (1 - self.dose) ** 0.5

        def add(images: Tensor, indices: Sequence[int]) -> Tensor:
            size = (images.shape[-2], images.shape[-1])
            noise = [
                noise_texture(1, *size, generator=generator(self.seed, "n", image, index))
                for index in indices
            ]
            return images + level * torch.cat(noise).to(images)

        return add
