"""Draws of a linear layer against the posterior in closed form, float64."""

import pytest
import torch
from linear_layer import SIZE, LinearLayer
from scipy.stats import chi2
from torch import nn

from invkit.fiber.tangent import Tangent
from invkit.noise.covariance import NoiseCovariance
from invkit.noise.within import NoiseWithin
from invkit.posterior import draws
from invkit.posterior.draws import Posterior, sigma_for
from invkit.split.split import Split
from invkit.tolerance.unit import Unit
from invkit.tolerance.windows import Windows

COUNT = 600


@pytest.fixture(scope="module")
def layer():
    return LinearLayer()


def posterior(layer, tolerance=3.0, covariance=None, mean=None):
    return Posterior(
        layer.split,
        layer.x,
        layer.x if mean is None else mean,
        layer.windows,
        covariance or layer.covariance,
        tolerance,
        layer.tangent,
    )


def spread(draws, about):
    return float((draws - about).square().mean().sqrt())


def test_the_covariance_of_the_draws_is_that_of_the_closed_form(layer):
    of = posterior(layer)
    draws = of.draw(COUNT, seed=0).drawn.flatten(1)
    expected = layer.posterior(of.sigma)
    off = draws - layer.x.flatten(1)
    found = off.T @ off / len(off)
    d = SIZE * SIZE
    # Independent draws: the squared error of a sample covariance is (tr(P)^2 + |P|^2) / n on average.
    bound = ((expected.trace() ** 2 + expected.square().sum()) / len(off)).sqrt()
    assert (found - expected).norm() < 1.2 * bound
    assert (off.mean(0) / expected.diag().sqrt()).square().sum() * len(off) < chi2.ppf(1 - 1e-6, d) * d


def test_the_spread_is_that_of_the_closed_form(layer):
    of = posterior(layer)
    truth = float((layer.posterior(of.sigma).trace() / (SIZE * SIZE)).sqrt())
    assert spread(of.draw(COUNT, seed=1).drawn, layer.x) == pytest.approx(truth, rel=0.02)


def test_another_start_changes_nothing(layer):
    of = posterior(layer)
    start = 5 * layer.covariance.white(1, torch.Generator().manual_seed(3))
    one, other = of.draw(4, seed=0), of.draw(4, seed=0, start=start)
    assert spread(one.drawn, other.drawn) < 0.01 * spread(one.drawn, layer.x)


def test_the_mean_is_where_the_prior_puts_it(layer):
    away = layer.x + 10.0
    of = posterior(layer, mean=away)
    weighted = layer.jacobian / (of.sigma * layer.s)[:, None]
    expected = away.flatten() + layer.posterior(of.sigma) @ weighted.T @ weighted @ (layer.x - away).flatten()
    found = of.draw(200, seed=0).drawn.flatten(1).mean(0)
    deviation = (layer.posterior(of.sigma).diag() / 200).sqrt()
    assert ((found - expected) / deviation).square().mean() == pytest.approx(1, abs=0.4)


def test_noise_of_a_part_leaves_the_rest_as_it_is_and_has_the_closed_form(layer):
    part = slice(2, 8)
    inside = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    inside[part, part] = True
    deviation = layer.covariance.deviation[part, part]
    of = posterior(layer, covariance=NoiseWithin(deviation, place=(part, part), around=(SIZE, SIZE)))
    found = of.draw(COUNT, seed=0).drawn - layer.x
    assert bool((found[..., ~inside] == 0).all())
    prior = NoiseCovariance(deviation).apply(torch.eye(36, dtype=torch.float64).view(36, 1, 6, 6)).flatten(1)
    weighted = (layer.jacobian / (of.sigma * layer.s)[:, None])[:, inside.flatten()]
    truth = torch.linalg.inv(torch.linalg.inv(prior) + weighted.T @ weighted)
    assert float(found[..., inside].square().mean()) == pytest.approx(float(truth.trace()) / 36, rel=0.05)


def test_in_the_null_space_the_variance_is_the_priors(layer):
    """A layer that sees nothing leaves all of the noise; twice the covariance is twice the variance."""
    blind = LinearLayer()
    with torch.no_grad():
        blind.network[0].weight.zero_()
    first = posterior(blind).draw(20, seed=0)
    twice = posterior(blind, covariance=blind.covariance.scaled(2)).draw(20, seed=0)
    assert torch.allclose(twice.drawn - blind.x, 2**0.5 * (first.drawn - blind.x))
    variance = (first.drawn - blind.x).square().mean() / blind.covariance.deviation.square().mean()
    assert variance == pytest.approx(1, abs=0.15)


def test_certificates_are_of_the_layer_itself_and_failures_are_drawn_again(layer):
    of = posterior(layer, tolerance=0.5)
    found = of.draw(10, seed=0)
    assert len(found.images) == len(found.distances) == 10
    assert len(found.drawn) >= 10 and found.rejected == len(found.drawn) - 10
    z = layer.split.phi(layer.x)
    for image, distance in zip(found.images, found.distances, strict=True):
        off = ((layer.split.phi(image[None]) - z) / layer.unit.s[0]).square().mean().sqrt()
        assert distance == pytest.approx(float(off))
        assert distance <= 0.5


def test_a_draw_depends_on_its_index_alone(layer):
    of = posterior(layer)
    assert torch.allclose(of.draw(9, seed=0).drawn[:3], of.draw(3, seed=0).drawn, atol=1e-2)


def test_sigma_keeps_one_window_within_the_tolerance():
    noise = sigma_for(0.5, 64) * torch.randn(200_000, 64, generator=torch.Generator().manual_seed(0))
    beyond = (noise.square().mean(1).sqrt() > 0.5).double().mean()
    assert 0.2e-4 < beyond < 3e-4


def test_noise_of_another_kind_is_another_posterior(layer):
    smooth = NoiseCovariance(layer.covariance.deviation, power=lambda f: 1 / (1 + (20 * f) ** 4))
    one = posterior(layer).draw(50, seed=0)
    other = posterior(layer, covariance=smooth).draw(50, seed=0)
    assert spread(other.drawn, layer.x) < 0.8 * spread(one.drawn, layer.x)


def test_a_layer_with_a_null_space_is_drawn_to_its_end(monkeypatch):
    """Means of 2 x 2 pixels: the last linear system is not solved, and gains nothing any more."""
    monkeypatch.setattr(draws, "PRODUCTS", 40)
    size = 32
    network = nn.Sequential(nn.AvgPool2d(2), nn.Upsample(scale_factor=2))
    split = Split(network, "0")
    covariance = NoiseCovariance(torch.full((size, size), 50.0))
    x = 40 + covariance.draws(1, torch.Generator().manual_seed(0))
    s = torch.full((1, 1, size // 2, size // 2), 57.0)
    of = Posterior(
        split, x, x, Windows((8,), Unit((s,), (0.0,), 0.0)), covariance, 0.03, Tangent(split.phi_grad)
    )
    found = of.draw(24, seed=0)
    assert found.converged
    unit = torch.eye(size**2).view(-1, 1, size, size)
    matrix = covariance.apply(unit).flatten(1).double()
    jacobian = split.phi(unit).flatten(1).T.double() / (of.sigma * 57.0)
    truth = torch.linalg.inv(torch.linalg.inv(matrix) + jacobian.T @ jacobian)
    assert spread(found.drawn, x) == pytest.approx(float((truth.trace() / size**2).sqrt()), rel=0.03)
