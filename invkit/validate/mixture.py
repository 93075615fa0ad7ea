"""Images of a random strength: p(x|z) is no normal distribution, and no linear start finds it."""

__all__ = ["ScaleMixture", "check_mixture"]

import math

import torch
from torch import Tensor

from invkit.flow.config import CinnConfig
from invkit.split.split import Split
from invkit.training.progress import Progress
from invkit.validate.gaussian import LEVEL, Conditional, GaussianField, conditional
from invkit.validate.rows import Row, Seeds
from invkit.validate.training import LOG_VAR, Case, train_flow

STRENGTHS = (0.6, 1.4)
CASE = Case(config=CinnConfig(steps=1000, lr=3e-3, evaluate_every=200))


class ScaleMixture:
    """x = level + k (g - level), where g is a Gaussian field and k one of two strengths, equally probable.

    z is linear in x. Given k everything is normal, with the mean of one Gaussian field whatever k is; hence

    ``p(code | z) = sum over k of p(k | z) N(mean(z), k^2 C_z + s^2)``, ``p(k | z)`` in proportion to ``N(z; 0, k^2 U^T C U)``.

    How wide it is depends on the length of z, which is not linear in z.

    Args:
        field: the distribution of g.
        kept: orthonormal basis U of what z keeps, `(size^2, r)`.
    """

    def __init__(self, field: GaussianField, kept: Tensor) -> None:
        self.field, self.kept = field, kept
        self.seen = kept.T @ field.covariance @ kept

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Return images `(n, 1, size, size)`, HU."""
        strength = torch.tensor(STRENGTHS)[torch.randint(2, (n, 1, 1, 1), generator=generator)]
        return LEVEL + strength * (self.field.draw(n, generator) - LEVEL)

    def conditional(self, strength: float) -> Conditional:
        """Return p(code | z, k)."""
        return conditional(self.field, self.kept, math.exp(LOG_VAR), strength)

    def nll_rows(self, codes: Tensor, x: Tensor) -> Tensor:
        """Return -log p(code | z) of noisy codes `(n, d)`, nats per dimension, `(n,)`."""
        z = (x.flatten(1).double() - LEVEL) @ self.kept
        zero = torch.zeros(len(self.seen), dtype=torch.float64)
        weights, parts = [], []
        for strength in STRENGTHS:
            prior = torch.distributions.MultivariateNormal(zero, strength**2 * self.seen)
            weights.append(prior.log_prob(z))
            parts.append(-self.conditional(strength).nll_rows(codes, x) * codes.shape[1])
        weight = torch.stack(weights).log_softmax(0)
        return -(weight + torch.stack(parts)).logsumexp(0) / codes.shape[1]


def check_mixture(
    split: Split, kept: Tensor, seeds: Seeds, *, case: Case = CASE, progress: Progress | None = None
) -> list[Row]:
    """Hold the likelihood of a trained flow against the closed form.

    Args:
        split: the layer.
        kept: orthonormal basis of what z is said to keep, `(size^2, r)`.
        seeds: of images and training.
        case: sizes.
        progress: receives the progress of the training.
    """
    images = ScaleMixture(GaussianField(case.size), kept)
    trained = train_flow(split, images.draw, images.conditional(1.0), seeds, case, progress)
    return [trained.gap(seeds.name, images.nll_rows)]
