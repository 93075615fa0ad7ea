"""Draws of nonlinear layers against long Hamiltonian Monte Carlo: what randomise-then-optimise is off by.

OMP_NUM_THREADS=1 python -m pytest -m slow -s tests/plugins/test_posterior_slow.py
"""

import pytest
import torch
from exact_layer import in_float64, jacobian
from hamiltonian import sample

from invkit.analysis.subject import choose_subject
from invkit.data.dose.image import estimate_noise
from invkit.fiber.tangent import Tangent
from invkit.noise.covariance import NoiseCovariance
from invkit.plugins.load import load
from invkit.posterior.draws import Posterior
from invkit.split.split import Split
from invkit.tolerance.unit import unit_of
from invkit.tolerance.windows import Windows

pytestmark = pytest.mark.slow

SIDE, DRAWS = 16, 96
CHAINS, STEPS = 32, 50


def root_mean_square(values):
    return float(values.double().square().mean().sqrt())


@pytest.mark.parametrize("tolerance", [0.05, 1.0], ids=["grey level", "repeat scan"])
@pytest.mark.parametrize("model", ["chen2017", "yang2018"])
def test_the_spread_is_that_of_a_long_chain(model, tolerance):
    split = Split(load(model), "3")
    whole = choose_subject(None, seed=0).x
    x = whole[..., 50 : 50 + SIDE, 50 : 50 + SIDE].contiguous()
    noise = NoiseCovariance(torch.full((SIDE, SIDE), estimate_noise(whole)))
    generator = torch.Generator().manual_seed(0)
    unit = unit_of(split, split.denoiser(x), lambda count: noise.draws(count, generator))
    posterior = Posterior(split, x, x, Windows.of(split, x, unit), noise, tolerance, Tangent(split.phi_grad))
    ours = (posterior.draw(DRAWS, seed=0).first - x).flatten(1).double()

    exact = NoiseCovariance(noise.deviation.double())
    units = torch.eye(SIDE * SIDE, dtype=torch.float64).view(-1, 1, SIDE, SIDE)
    a = exact.root(units).flatten(1).T
    weights = 1 / (posterior.sigma * unit.s[0].double())
    g = weights.flatten()[:, None] * jacobian(split, x) @ a
    layer = in_float64(split)
    z = layer.phi(x.double())

    def energy(white):
        white = white.detach().requires_grad_()
        image = x.double() + exact.root(white.view(-1, 1, SIDE, SIDE))
        misfit = (layer.phi_grad(image) - z) * weights
        value = (white.square().sum(1) + misfit.flatten(1).square().sum(1)) / 2
        (gradient,) = torch.autograd.grad(value.sum(), white)
        return value.detach(), gradient

    linear = torch.linalg.inv(torch.eye(len(a), dtype=torch.float64) + g.T @ g)
    chains = sample(energy, torch.linalg.cholesky(linear), chains=CHAINS, burn=20, steps=STEPS)

    def square(states):
        return (states @ a.T).square().mean(-1)

    assert chains.accepted > 0.6
    assert chains.shrinkage(square) < 1.03
    assert chains.shrinkage(lambda states: states.square().sum(-1)) < 1.03
    assert max(chains.shrinkage(lambda states, k=k: (states @ a.T)[..., k]) for k in range(0, 256, 16)) < 1.05
    theirs = (chains.states @ a.T).flatten(0, 1)
    spread = root_mean_square(theirs)
    bias = root_mean_square(theirs.mean(0)) / spread
    own = root_mean_square(ours.mean(0)) / root_mean_square(ours)
    print(
        f"\n| {model} layer 3, tolerance {tolerance:g} | {spread:.3g} | {root_mean_square(ours):.3g} | {bias:.3f} | {own:.3f} |"
    )
    assert root_mean_square(ours) == pytest.approx(spread, rel=0.05)
    maps = torch.stack([theirs.std(0), ours.std(0)])
    assert torch.corrcoef(maps)[0, 1] > 0.75
    # Chance alone leaves 1 / sqrt(96) of the spread in the mean of 96 draws, less in that of the chains.
    assert bias < 0.1
    assert own < 0.1 + DRAWS**-0.5


def test_the_chains_sample_what_they_are_told_to():
    """A funnel of two numbers, whose moments are known: x has the deviation 1, y given x that of exp(x / 2)."""

    def energy(state):
        state = state.detach().requires_grad_()
        x, y = state.unbind(1)
        value = x.square() / 2 + y.square() * torch.exp(-x) / 2 + x / 2
        (gradient,) = torch.autograd.grad(value.sum(), state)
        return value.detach(), gradient

    chains = sample(energy, torch.eye(2, dtype=torch.float64), chains=200, burn=100, steps=400, step=0.2)
    x, y = chains.states.flatten(0, 1).unbind(1)
    assert x.std() == pytest.approx(1, abs=0.05)
    assert x.mean() == pytest.approx(0, abs=0.05)
    assert y.square().mean() == pytest.approx(2.718281828**0.5, rel=0.15)
    assert chains.shrinkage(lambda states: states[..., 0]) < 1.05
    stuck = sample(energy, torch.eye(2, dtype=torch.float64), chains=20, burn=0, steps=20, step=1e-3)
    assert stuck.shrinkage(lambda states: states[..., 0]) > 1.5
