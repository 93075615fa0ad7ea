"""The terms of the VAE-WGAN's loss, each in nats per pixel or without unit.

Where processes share a batch, what is a mean over it in a logarithm or a norm is the mean over all of it.
"""

__all__ = ["adaptive_weight", "band_energy", "kl_divergence", "sigma_nll"]


import torch
from torch import Tensor

from invkit.images.bands import radial_bands
from invkit.training.processes.distributed import average, of_all


def kl_divergence(mean: Tensor, log_var: Tensor) -> Tensor:
    """Return KL(N(mean, exp(log_var)) || N(0, 1)) summed over all dimensions but the first, shape `(B,)`, nats.

    It is `1/2 sum(mu^2 + sigma^2 - log sigma^2 - 1)`: Kingma and Welling 2014, appendix B; the slides leave
    out the constant.
    """
    return 0.5 * (mean.square() + log_var.exp() - log_var - 1).flatten(1).sum(dim=1)


def sigma_nll(x: Tensor, x_bar: Tensor, floor: float = 1e-6) -> Tensor:
    """Return the negative log-likelihood per pixel of x under N(x_bar, sigma^2) at the best sigma.

    Without its constant it is `1/2 log mse`, for the best sigma^2 is the mse (sigma-VAE, Rybkin et al. 2021,
    eq. 6), so the weight against the KL term sets itself. A sigma that is learned by gradient steps at the
    common rate follows far too slowly.

    Args:
        x: scaled patches, `(B, 1, H, W)`.
        x_bar: reconstructions.
        floor: added to the mean squared error, so that a perfect copy keeps a finite gradient.
    """
    return 0.5 * (of_all((x - x_bar).square().mean()) + floor).log()


def band_energy(
    x: Tensor, x_bar: Tensor, *, tolerance: float, bands: int = 10, floor: float = 1e-4
) -> Tensor:
    """Return the penalty on band energies of x_bar that differ from those of x by more than a factor.

    `max(0, |log P(x_bar) - log P(x)| - tolerance)^2`, as a mean over bands and patches, plus the same for the
    sums over the patches, which structured patches dominate. Every other patch is Hann-windowed, the rest are
    not. The mean squared error alone is lowest where everything that the code cannot hold is left out, so
    noise and fine structure vanish; this term asks for their energy, not for their phase.

    Args:
        x: scaled patches, `(B, 1, H, W)`.
        x_bar: reconstructions.
        tolerance: largest difference of logarithms that is free, e.g. 0.3 for a factor of 1.35.
        bands: number of bands.
        floor: power, in scaled units, below which a band counts as empty.
    """
    total = x.new_zeros(())
    for start, window in ((0, True), (1, False)):
        if start < len(x):
            found = radial_bands(x_bar[start::2], bands, window=window)
            wanted = radial_bands(x[start::2], bands, window=window)
            for ratio in (
                (found + floor).log() - (wanted + floor).log(),
                (of_all(found.mean(0)) + floor).log() - (of_all(wanted.mean(0)) + floor).log(),
            ):
                total = total + 0.5 * (ratio.abs() - tolerance).clamp_min(0).square().mean()
    return total


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last: Tensor, limit: float) -> Tensor:
    """Return the factor that gives both terms gradients of equal norm at the decoder's last layer.

    `|grad reconstruction| / |grad adversarial|` (Esser et al. 2021, eq. 7), a constant without gradient.

    Args:
        reconstruction: scalar.
        adversarial: scalar.
        last: weight of the decoder's last layer.
        limit: largest factor; a critic that has gone flat would otherwise be amplified without bound.
    """
    (wanted,) = torch.autograd.grad(reconstruction, last, retain_graph=True)
    (found,) = torch.autograd.grad(adversarial, last, retain_graph=True)
    weight: Tensor = average(wanted).norm() / (average(found).norm() + 1e-8)
    return weight.clamp_max(limit).detach()
