"""Draws and detectability of the two denoisers against dense Jacobians in float64, at a small image."""

import pytest
import torch
from exact_layer import jacobian

from invkit.data.dose.image import estimate_noise
from invkit.data.images import default_scan
from invkit.fiber.linearise import Linearisation
from invkit.fiber.tangent import Tangent
from invkit.images.disc import disc
from invkit.measures.structures.condition import extreme_singular_values
from invkit.noise.covariance import NoiseCovariance
from invkit.plugins.load import load
from invkit.posterior.draws import Posterior
from invkit.posterior.observer import detectability
from invkit.posterior.whitened import Whitened
from invkit.split.split import Split
from invkit.tolerance.unit import unit_of
from invkit.tolerance.windows import Windows

SIDE, TOLERANCE = 20, 0.05


@pytest.mark.parametrize(("model", "layer"), [("chen2017", "1"), ("yang2018", "3")])
def test_draws_and_detectability_are_those_of_the_dense_solution(model, layer):
    split = Split(load(model), layer)
    x = default_scan().image[..., 50 : 50 + SIDE, 50 : 50 + SIDE]
    noise = NoiseCovariance(torch.full((SIDE, SIDE), 2 * estimate_noise(x)))
    generator = torch.Generator().manual_seed(0)
    unit = unit_of(split, split.denoiser(x), lambda count: noise.draws(count, generator))
    windows = Windows.of(split, x, unit)
    tangent = Tangent(split.phi_grad)
    posterior = Posterior(split, x, x, windows, noise, TOLERANCE, tangent)

    weighted = jacobian(split, x) / (posterior.sigma * unit.s[0].double().flatten())[:, None]
    information = weighted.T @ weighted
    exact = NoiseCovariance(noise.deviation.double())
    unit_images = torch.eye(SIDE * SIDE, dtype=torch.float64).view(-1, 1, SIDE, SIDE)
    prior = torch.linalg.inv(exact.apply(unit_images).flatten(1).T)
    left = torch.linalg.inv(prior + information)

    found = posterior.draw(24, seed=0)
    spread = float((found.drawn - x).double().square().mean().sqrt())
    assert found.converged
    assert len(found.images) == 24
    assert spread == pytest.approx(float((left.trace() / SIDE**2).sqrt()), rel=0.05)

    d = exact.blurred(10 * disc(SIDE, SIDE, (10.0, 10.0), 3.0)[None, None])
    at = Whitened(split, x, unit, posterior.sigma, noise, tangent)
    seen = detectability(at, d.float())
    row = d.flatten()
    in_image = float((row @ prior @ row).sqrt())
    # d^T (C + P^-1)^-1 d, with P the information of z, written without its inverse.
    in_layer = float((row @ (prior - prior @ left @ prior) @ row).sqrt())
    assert float(seen.in_image[0]) == pytest.approx(in_image, rel=1e-3)
    assert float(seen.in_layer[0]) == pytest.approx(in_layer, rel=1e-2)
    assert float(seen.lost[0]) == pytest.approx(1 - in_layer / in_image, rel=0.05)


@pytest.mark.parametrize(("model", "layer"), [("chen2017", "3"), ("yang2018", "5")])
def test_extreme_singular_values_are_those_of_the_dense_derivative(model, layer):
    split = Split(load(model), layer)
    x = default_scan().image[..., 50 : 50 + SIDE, 50 : 50 + SIDE]
    at = Linearisation(split.phi_grad, x, Tangent(split.phi_grad))
    exact = torch.linalg.svdvals(jacobian(split, x))
    largest, smallest, converged = extreme_singular_values(
        lambda v: at.forward(v.view(1, 1, SIDE, SIDE).float()),
        lambda q: at.transposed(q).flatten().double(),
        SIDE**2,
        products=SIDE**2,
        within=0.01,
    )
    assert converged
    assert largest == pytest.approx(float(exact[0]), rel=1e-4)
    assert smallest == pytest.approx(float(exact[-1]), rel=0.01)
