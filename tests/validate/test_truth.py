"""The truths that a validation compares with, each against an independent computation."""

import math

import pytest
import torch
from scipy import stats

from invkit.denoisers.oracles.linear import Band, BlockMean
from invkit.denoisers.oracles.oracle import CUTOFF, LEVELS, TAU
from invkit.denoisers.oracles.pointwise import Haar, Shrink
from invkit.validate.gaussian import (
    DEVIATION,
    LEVEL,
    GaussianField,
    conditional,
    kept_by_blocks,
    kept_by_lowpass,
)
from invkit.validate.mixture import STRENGTHS, ScaleMixture
from invkit.validate.threshold import LaplacePrior, ks_uniform
from invkit.validate.training import LOG_VAR


def source(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("kept", "module"),
    [(kept_by_lowpass(16, CUTOFF), Band(0, CUTOFF, keep=True)), (kept_by_blocks(16, 2), BlockMean(2))],
    ids=["lowpass", "blocks"],
)
def test_what_a_layer_is_said_to_keep_is_what_it_keeps(kept, module):
    unit = torch.eye(256, dtype=torch.float64)
    torch.testing.assert_close(kept.T @ kept, unit[: kept.shape[1], : kept.shape[1]], atol=1e-12, rtol=0)
    found = module(unit.view(256, 1, 16, 16)).flatten(1).T
    torch.testing.assert_close(kept @ kept.T, found, atol=1e-12, rtol=0)


def test_drawn_images_have_the_covariance_that_is_stated():
    field = GaussianField(8)
    x = field.draw(40_000, source()).flatten(1).double()
    torch.testing.assert_close(x.mean(0), torch.full((64,), LEVEL, dtype=torch.float64), atol=2, rtol=0)
    error = float((torch.cov(x.T) - field.covariance).norm() / field.covariance.norm())
    assert error < 0.03
    variance = field.covariance.diagonal()
    # Uneven, so that frequencies are not independent and z tells something about what it drops.
    assert float(variance.max() / variance.min()) > 2
    assert float(variance.mean().sqrt()) == pytest.approx(DEVIATION, rel=0.1)


def test_the_conditional_is_that_of_the_precision_matrix():
    """Given U^T x, the rest N^T x has the precision N^T C^-1 N: another way to the same covariance and mean."""
    field, kept = GaussianField(8), kept_by_lowpass(8, CUTOFF)
    truth = conditional(field, kept, 0.02)
    other = torch.linalg.svd(kept.T)[2][kept.shape[1] :].T
    assert truth.rank == other.shape[1]
    precision = torch.linalg.inv(field.covariance)
    within = torch.linalg.inv(other.T @ precision @ other)
    left = other @ within @ other.T
    unit = torch.eye(64, dtype=torch.float64)
    expected = truth.basis.T @ left @ truth.basis / DEVIATION**2 + 0.02 * unit
    torch.testing.assert_close(truth.covariance, expected, atol=1e-9, rtol=0)
    x = field.draw(3, source())
    known = (x.flatten(1).double() - LEVEL) @ kept
    rest = -known @ (kept.T @ precision @ other) @ within
    mean = (known @ kept.T + rest @ other.T) @ truth.basis / DEVIATION
    torch.testing.assert_close(truth.mean(x), mean, atol=1e-6, rtol=0)
    assert float(rest.norm()) > 0.05 * float(known.norm())


def test_the_mean_nll_is_the_conditional_entropy():
    field = GaussianField(8)
    truth = conditional(field, kept_by_blocks(8, 2), 0.02)
    x = field.draw(20_000, source())
    codes = truth.code(x) + math.sqrt(0.02) * torch.randn(20_000, 64, generator=source(1))
    entropy = 0.5 * (math.log(2 * math.pi * math.e) + float(torch.logdet(truth.covariance)) / 64)
    assert float(truth.nll_rows(codes, x).mean()) == pytest.approx(entropy, abs=0.003)


def test_the_mixture_is_that_of_numerical_integration_over_the_strengths():
    """p(code | z) = p(code, z) / p(z), each a mixture of joint normal distributions, computed without conditioning."""
    field, kept = GaussianField(4), kept_by_blocks(4, 2)
    mixture = ScaleMixture(field, kept)
    x = mixture.draw(6, source())
    codes = mixture.conditional(1.0).code(x) + 0.1 * torch.randn(6, 16, generator=source(1))
    z = (x.flatten(1).double() - LEVEL) @ kept
    of_code = mixture.conditional(1.0).basis.T / DEVIATION
    both = torch.cat([of_code, kept.T]) @ field.covariance @ torch.cat([of_code, kept.T]).T
    noise = torch.diag(torch.tensor([math.exp(LOG_VAR)] * 16 + [0.0] * 4, dtype=torch.float64))
    joint, seen = [], []
    for strength in STRENGTHS:
        covariance = (strength**2 * both + noise).numpy()
        joint.append(stats.multivariate_normal(cov=covariance).pdf(torch.cat([codes, z], 1).numpy()))
        seen.append(stats.multivariate_normal(cov=covariance[16:, 16:]).pdf(z.numpy()))
    expected = -torch.tensor(sum(joint) / sum(seen)).log() / 16
    torch.testing.assert_close(mixture.nll_rows(codes, x), expected)
    widths = mixture.draw(4000, source()).flatten(1).std(1)
    assert float(widths.std() / widths.mean()) > 0.35


def test_the_truncated_prior_is_that_of_scipy():
    prior = LaplacePrior(16)
    assert int(prior.detail.sum()) == 256 - (16 >> LEVELS) ** 2
    assert torch.equal(prior.detail[None, None], Shrink(TAU, LEVELS)(torch.ones(1, 1, 16, 16)) == 0)
    # A level's details have one width: those of the whole image's finest level fill all but the upper left quarter.
    assert len(set(prior.widths[8:].flatten().tolist())) == 1
    assert prior.widths[1, 2] == prior.widths[2, 1] != prior.widths[4, 4]
    c = TAU * (2 * torch.rand(5, 16, 16, generator=source(), dtype=torch.float64) - 1)
    widths = prior.widths.numpy()[prior.detail]
    cdf = [stats.laplace.cdf(t, scale=widths) for t in (c[:, prior.detail].numpy(), -TAU, TAU)]
    expected = (cdf[0] - cdf[1]) / (cdf[2] - cdf[1])
    torch.testing.assert_close(prior.truncated_cdf(c)[:, prior.detail], torch.tensor(expected))


def test_draws_of_the_prior_are_laplace_and_uniform_when_truncated():
    prior = LaplacePrior(16)
    c = prior.draw(200, source())
    finest = c[:, 0, 8:, 8:].flatten().numpy()
    assert stats.kstest(finest, stats.laplace(scale=float(prior.widths[-1, -1])).cdf).pvalue > 0.01
    killed = (c.abs() <= TAU) & prior.detail
    assert ks_uniform(prior.truncated_cdf(c)[killed]) < 0.01
    assert float((Haar(LEVELS)(Haar(LEVELS, inverse=True)(c)) - c).abs().max()) < 1e-10


def test_the_ks_distance_is_that_of_scipy():
    for values in (torch.rand(50, generator=source()), torch.rand(7, generator=source()).square()):
        expected = stats.kstest(values.double().numpy(), "uniform").statistic
        assert ks_uniform(values) == pytest.approx(expected, abs=1e-12)
