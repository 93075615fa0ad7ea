"""Ideal linear observers against dense matrices in float64."""

import pytest
import torch
from linear_layer import SIZE, LinearLayer

from invkit.noise.covariance import NoiseCovariance
from invkit.posterior.observer import detectability
from invkit.posterior.whitened import Whitened


@pytest.fixture(scope="module")
def layer():
    return LinearLayer()


def structures(count=3):
    generator = torch.Generator().manual_seed(5)
    return torch.randn(count, 1, SIZE, SIZE, generator=generator, dtype=torch.float64)


def seen(layer, sigma, d):
    at = Whitened(
        layer.split, layer.x.expand(len(d), -1, -1, -1), layer.unit, sigma, layer.covariance, layer.tangent
    )
    return detectability(at, d)


@pytest.mark.parametrize("sigma", [0.1, 1.0, 10.0])
def test_detectability_is_that_of_the_matrices(layer, sigma):
    d = structures()
    found = seen(layer, sigma, d)
    rows = d.flatten(1)
    in_image = (rows @ torch.linalg.inv(layer.matrix) * rows).sum(1).sqrt()
    noise = layer.jacobian @ layer.matrix @ layer.jacobian.T + torch.diag((sigma * layer.s) ** 2)
    z = rows @ layer.jacobian.T
    in_layer = (z @ torch.linalg.inv(noise) * z).sum(1).sqrt()
    assert torch.allclose(found.in_image, in_image, rtol=1e-6)
    assert torch.allclose(found.in_layer, in_layer, rtol=2e-3)


def test_a_layer_detects_no_more_than_the_image_and_less_at_a_larger_tolerance(layer):
    d = structures()
    kept = torch.stack([seen(layer, sigma, d).kept for sigma in (0.1, 0.5, 2.0, 8.0)])
    assert (kept <= 1).all()
    assert (kept.diff(dim=0) < 0).all()


def test_what_a_layer_does_not_see_is_lost(layer):
    blind = LinearLayer()
    with torch.no_grad():
        blind.network[0].weight.zero_()
    assert (seen(blind, 1.0, structures()).kept < 1e-7).all()


def test_halving_the_floor_hardly_moves_a_blurred_disc(layer):
    disc = torch.zeros(1, 1, SIZE, SIZE, dtype=torch.float64)
    disc[..., 4:8, 4:8] = 10
    found = []
    for floor in (1e-3, 5e-4):
        noise = NoiseCovariance(layer.covariance.deviation, floor=floor)
        at = Whitened(layer.split, layer.x, layer.unit, 0.5, noise, layer.tangent)
        result = detectability(at, noise.blurred(disc))
        found.append(torch.stack([result.in_image, result.in_layer]))
    assert torch.allclose(*found, rtol=0.05)
