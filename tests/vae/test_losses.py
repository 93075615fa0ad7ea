import math

import pytest
import torch
from torch import distributions

from invkit.vae.losses import (
    adaptive_weight,
    band_energy,
    kl_divergence,
    sigma_nll,
)


def seeded(n=0):
    return torch.Generator().manual_seed(n)


def test_kl_against_torch_distributions():
    mean, log_var = torch.randn(2, 6, 5, generator=seeded(), dtype=torch.float64)
    posterior = distributions.Normal(mean, (0.5 * log_var).exp())
    expected = distributions.kl_divergence(posterior, distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(kl_divergence(mean, log_var), expected)


def test_sigma_nll_is_the_smallest_gaussian_nll():
    x, x_bar = torch.randn(2, 3, 1, 8, 8, generator=seeded(), dtype=torch.float64)
    constant = 0.5 * math.log(2 * math.pi * math.e)
    likelihoods = [
        -distributions.Normal(x_bar, sigma).log_prob(x).mean() for sigma in torch.linspace(0.5, 3, 2000)
    ]
    assert sigma_nll(x, x_bar) + constant == pytest.approx(min(likelihoods).item(), abs=1e-5)


def test_adaptive_weight_is_the_ratio_of_gradient_norms_and_limited():
    last = torch.randn(3, 3, generator=seeded(), requires_grad=True)
    out = last.sum()
    assert adaptive_weight(6 * out, -2 * out, last, 100.0).item() == pytest.approx(3.0)
    assert adaptive_weight(6 * out, -2 * out, last, 2.0).item() == 2.0
    assert not adaptive_weight(6 * out, -2 * out, last, 100.0).requires_grad


def test_band_energy_of_a_scaled_copy():
    """All bands of a copy at half the amplitude lack a factor 4: log 4, of which `tolerance` is free."""
    x = torch.randn(3, 1, 32, 32, generator=seeded()) * 10
    expected = (math.log(4) - 0.3) ** 2
    assert band_energy(x, x / 2, tolerance=0.3).item() == pytest.approx(2 * expected, rel=1e-3)
    assert band_energy(x[:1], x[:1] / 2, tolerance=0.3).item() == pytest.approx(expected, rel=1e-3)
    assert band_energy(x, x * 1.1, tolerance=0.3).item() == 0.0
    assert band_energy(x, x.flip(-1), tolerance=0.0).item() < 1e-3


def test_band_energy_sees_single_patches_and_their_sum():
    """A faint patch that is lost costs as much as a strong one; only the sum tells them apart."""
    x = torch.randn(4, 1, 32, 32, generator=seeded())
    x[2:] *= 100
    faint, strong = x.clone(), x.clone()
    faint[:2] /= 4
    strong[2:] /= 4
    single = 0.5 * math.log(16) ** 2
    assert band_energy(x, faint, tolerance=0.0).item() == pytest.approx(single, rel=1e-2)
    assert band_energy(x, strong, tolerance=0.0).item() == pytest.approx(3 * single, rel=1e-2)
