"""Gaussian images with a known covariance, and p(x|z) of them in closed form for a z that is linear in x."""

__all__ = ["Conditional", "GaussianField", "conditional", "kept_by_blocks", "kept_by_lowpass"]

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LEVEL = 40.0  # HU, the mean of all images
DEVIATION = 50.0  # HU
CORNER = 0.08  # cycles per pixel, where the spectrum begins to fall
UNEVEN = 0.5


class GaussianField:
    """x ~ N(level, C), C = D S D: a stationary texture S whose strength D differs from place to place.

    S has the power spectrum 1 / (1 + f / f0)^2 on a torus. D ties frequencies together, so that what is above a cut-off
    can partly be told from what is below it.

    Args:
        size: side of the images, pixels.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        frequency = torch.fft.fftfreq(size, dtype=torch.float64)
        radius = (frequency.square()[:, None] + frequency.square()).sqrt()
        amplitude = 1 / (1 + radius / CORNER)
        amplitude *= DEVIATION / amplitude.square().mean().sqrt()
        place = 2 * math.pi * (torch.arange(size, dtype=torch.float64) + 0.5) / size
        strength = 1 + UNEVEN * torch.cos(place)[:, None] * torch.sin(place)
        unit = torch.eye(size * size, dtype=torch.float64).view(-1, size, size)
        texture = torch.fft.ifft2(torch.fft.fft2(unit) * amplitude).real
        # Column j is the image that white noise at pixel j becomes.
        self.root = (strength * texture).flatten(1).T
        self.covariance = self.root @ self.root.T

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Return images `(n, 1, size, size)`, HU, float32."""
        white = torch.randn(n, self.size**2, generator=generator, dtype=torch.float64)
        images: Tensor = LEVEL + white @ self.root.T
        return images.float().view(n, 1, self.size, self.size)


@dataclass(frozen=True)
class Conditional:
    """p(code | z) = N(mean, covariance), where code = `basis^T` (x - level) / scale plus dequantising noise.

    Args:
        basis: orthonormal, columns are the code's directions in the image, `(d, d)`.
        gain: the mean is `gain` applied to the image that z keeps, less the level; `(d, d)`.
        covariance: `(d, d)`, the same for every z.
        rank: of the conditional covariance without that noise: what z leaves free.
    """

    basis: Tensor
    gain: Tensor
    covariance: Tensor
    rank: int

    @property
    def d(self) -> int:
        """Size of a code."""
        return len(self.basis)

    def code(self, images: Tensor) -> Tensor:
        """Return the codes of images `(n, 1, size, size)`, without noise, `(n, d)`, float64."""
        return (images.flatten(1).double() - LEVEL) @ self.basis / DEVIATION

    def mean(self, images: Tensor) -> Tensor:
        """Return E[code | z] for the z of these images, `(n, d)`; only what z keeps of them is used."""
        return (images.flatten(1).double() - LEVEL) @ self.gain.T

    def nll_rows(self, codes: Tensor, images: Tensor) -> Tensor:
        """Return -log p(code | z) of noisy codes `(n, d)`, nats per dimension, `(n,)`."""
        truth = torch.distributions.MultivariateNormal(self.mean(images), self.covariance)
        log_prob: Tensor = truth.log_prob(codes.double())
        return -log_prob / self.d


def conditional(field: GaussianField, kept: Tensor, variance: float, strength: float = 1.0) -> Conditional:
    """Return p(code | z) for z = U^T x with U = `kept`, orthonormal columns, `(d, r)`.

    With K = C U (U^T C U)^-1 the mean of x is K U^T x and its covariance C - K U^T C (Severini 2005, section 8.3), of
    rank d - r: x has no density. The code has one, because the noise that its posterior adds is known; the flow is
    trained on such codes, whatever E they come from. This one is the Karhunen-Loeve transform of x.

    Args:
        field: the distribution of x.
        kept: U.
        variance: of the dequantising noise, in units of the code.
        strength: x varies so many times as strongly as the field.
    """
    c = field.covariance
    gain = torch.linalg.solve(kept.T @ c @ kept, kept.T @ c).T
    left = c - gain @ kept.T @ c
    basis = torch.linalg.eigh(c).eigenvectors.flip(-1)
    coded = strength**2 * (basis.T @ left @ basis) / DEVIATION**2
    coded = 0.5 * (coded + coded.T) + variance * torch.eye(len(c), dtype=c.dtype)
    return Conditional(basis, basis.T @ gain @ kept.T / DEVIATION, coded, len(c) - kept.shape[1])


def kept_by_lowpass(size: int, cutoff: float) -> Tensor:
    """Return an orthonormal basis of the waves up to `cutoff` cycles per pixel, `(size^2, r)`."""
    place = torch.arange(size, dtype=torch.float64)
    waves = []
    for row in range(size):
        for column in range(size):
            if math.hypot(min(row, size - row), min(column, size - column)) <= cutoff * size:
                phase = 2 * math.pi * (row * place[:, None] + column * place) / size
                # cos + sin of a frequency and of its negative span what cos and sin do (Hartley).
                waves.append((phase.cos() + phase.sin()).flatten() / size)
    return torch.stack(waves, 1)


def kept_by_blocks(size: int, block: int) -> Tensor:
    """Return an orthonormal basis of images that are constant on blocks, `(size^2, (size / block)^2)`."""
    small = torch.eye(size // block, dtype=torch.float64).repeat_interleave(block, 0) / math.sqrt(block)
    return torch.kron(small, small)
