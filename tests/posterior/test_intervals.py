"""Printed intervals cover what they are of: over 50 seeds, the value of a run with twenty times the draws."""

import numpy as np
import pytest
import torch
from linear_layer import LinearLayer

from invkit.posterior.draws import Posterior
from invkit.posterior.hidden import hidden_noise
from invkit.statistics.intervals import bootstrap

SEEDS, DRAWS, MORE = 50, 16, 320
TOLERANCE = 0.5


@pytest.fixture(scope="module")
def squares():
    """Squares of differences from x of one long run, and of 50 of the usual length."""
    layer = LinearLayer()
    posterior = Posterior(
        layer.split, layer.x, layer.x, layer.windows, layer.covariance, TOLERANCE, layer.tangent
    )
    counts = [(MORE, SEEDS), *((DRAWS, seed) for seed in range(SEEDS))]
    return [(posterior.draw(count, seed=seed).first - layer.x).square() for count, seed in counts]


@pytest.mark.slow
def test_the_interval_of_hidden_noise_covers_a_long_run(squares):
    truth = hidden_noise(squares[:1], 0).value
    found = [hidden_noise([one], seed) for seed, one in enumerate(squares[1:])]
    assert sum(one.low <= truth <= one.high for one in found) >= 44
    # No wider than it has to be: as wide as four standard deviations, or a little more for the few draws.
    scatter = float(np.std([one.value for one in found]))
    assert np.mean([one.high - one.low for one in found]) < 6 * scatter


@pytest.mark.slow
def test_the_interval_of_a_difference_of_two_runs_covers_nothing(squares):
    means = [one.double().mean((1, 2, 3)) for one in squares[1:]]
    pairs = zip(means, means[1:] + means[:1], strict=True)
    found = [bootstrap(one - other, seed=seed) for seed, (one, other) in enumerate(pairs)]
    assert sum(one.low <= 0 <= one.high for one in found) >= 44


def test_the_interval_of_few_values_is_students():
    """0.95 of such intervals cover the mean of normal numbers; those of the percentile bootstrap of four, about 0.8."""
    values = torch.randn(2000, 4, generator=torch.Generator().manual_seed(0)).double()
    found = [bootstrap(row) for row in values]
    assert np.mean([one.low <= 0 <= one.high for one in found]) == pytest.approx(0.95, abs=0.015)
