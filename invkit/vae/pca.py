"""Principal components of patches: the linear rival that a VAE with as many numbers has to beat."""

__all__ = ["PCA", "fit_pca", "linear_vae"]

from dataclasses import dataclass

import torch
from torch import Tensor

from invkit.errors import DataError

OVERSAMPLE = 32
EXACT_BELOW = 1024


@dataclass(frozen=True)
class PCA:
    """A mean patch and orthonormal components.

    Args:
        mean: `(1, H, W)`, in the unit of the patches.
        components: `(k, H * W)`, orthonormal rows by falling variance.
        variances: variance of the fitted patches along each, `(k,)`.
    """

    mean: Tensor
    components: Tensor
    variances: Tensor

    def encode(self, patches: Tensor) -> Tensor:
        """Return the coefficients `(B, k)` of patches `(B, 1, H, W)`."""
        coefficients: Tensor = (patches - self.mean).flatten(1) @ self.components.T
        return coefficients

    def decode(self, codes: Tensor) -> Tensor:
        """Return the patches `(B, 1, H, W)` of coefficients `(B, k)`."""
        return (codes @ self.components).reshape(-1, *self.mean.shape) + self.mean

    def reconstruct(self, patches: Tensor) -> Tensor:
        """Return the projection of patches `(B, 1, H, W)` on the components."""
        return self.decode(self.encode(patches))

    def rmse(self, patches: Tensor) -> float:
        """Return the root mean squared error of `reconstruct`, in the unit of the patches."""
        return float((self.reconstruct(patches) - patches).square().mean().sqrt())


def fit_pca(patches: Tensor, components: int, *, generator: torch.Generator, iterations: int = 3) -> PCA:
    """Return the leading principal components of patches.

    Exact for small problems; else by randomised subspace iteration (Halko, Martinsson and Tropp 2011,
    algorithm 4.4), whose reconstruction error is within a small fraction of a percent of the exact one on
    images, where variances fall fast.

    Args:
        patches: `(n, 1, H, W)`, with more patches than components. They are not changed.
        components: how many numbers a patch may be described by.
        generator: of the random start, on the device of the patches.
        iterations: power iterations.

    Raises:
        DataError: fewer patches or pixels than components.
    """
    n = len(patches)
    size = patches[0].numel() if n else 0
    if not 0 < components < min(n, size + 1):
        raise DataError(
            f"PCA with {components} components needs more patches than that and as many pixels, "
            f"got {n} patches of {size} pixels"
        )
    mean = patches.mean(dim=0)
    data = (patches - mean).flatten(1)
    if min(data.shape) <= EXACT_BELOW:
        _, singular, right = torch.linalg.svd(data, full_matrices=False)
    else:
        rank = min(components + OVERSAMPLE, *data.shape)
        start = torch.randn((size, rank), generator=generator, device=data.device, dtype=data.dtype)
        basis = torch.linalg.qr(data @ start).Q
        for _ in range(iterations):
            basis = torch.linalg.qr(data @ torch.linalg.qr(data.T @ basis).Q).Q
        _, singular, right = torch.linalg.svd(basis.T @ data, full_matrices=False)
    return PCA(mean, right[:components].contiguous(), singular[:components].square() / n)


def linear_vae(variances: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the best linear VAE along principal components: the factors of E and of D, and the log-variance, `(k,)` each.

    With the eigenvalues l_k and eigenvectors u_k of a covariance and s^2 the mean of the eigenvalues that are left out, the
    evidence lower bound of a linear VAE has its maximum at D = u_k (l_k - s^2)^(1/2), the posterior mean (l_k - s^2)^(1/2) /
    l_k u_k . (x - mean) and the posterior variance s^2 / l_k, and is the likelihood of probabilistic PCA there (Tipping and
    Bishop 1999, eq. 7 and 8; Lucas et al. 2019).

    Args:
        variances: l_k of those that are kept, `(k,)`.
        noise: s^2.
    """
    # Data that do not vary at all, as constant images, must not divide by zero.
    noise = noise.clamp_min(1e-8)
    kept = variances.maximum(1.0001 * noise)
    gain = (kept - noise).sqrt()
    return gain / kept, gain, (noise / kept).log()
