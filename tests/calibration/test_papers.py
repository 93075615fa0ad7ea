"""Ranks, coverage and accuracy computed again from the papers' definitions, one number at a time, with numpy and scipy."""

import numpy as np
import pytest
from scipy import optimize, stats

from invkit.calibration.c2st import PENALTY, check_c2st, run_c2st
from invkit.calibration.sbc import check_sbc, random_directions, run_sbc
from invkit.calibration.tarp import check_tarp, run_tarp


@pytest.fixture(scope="module")
def made():
    """Return truths and samples of a posterior that is too narrow, and random points."""
    rng = np.random.default_rng(5)
    truths = rng.normal(size=(90, 3))
    x = truths + rng.normal(size=(90, 3))
    samples = x / 2 + 0.7 * np.sqrt(0.5) * rng.normal(size=(31, 90, 3))
    return truths, samples, rng.uniform(-2, 2, size=(90, 3))


def test_ranks_are_those_of_talts(made):
    # Talts et al. 2018, section 4.1: r = sum over l of 1[f(theta_l) < f(theta)]
    truths, samples, _ = made
    ways = random_directions(3, 5, seed=1)
    coordinates, projections = run_sbc(truths, samples), run_sbc(truths, samples, ways)
    for row in range(90):
        for one in range(3):
            assert coordinates.ranks[row, one] == sum(
                float(samples[number, row, one]) < float(truths[row, one]) for number in range(31)
            )
        for one, way in enumerate(ways):
            value = sum(a * b for a, b in zip(truths[row], way, strict=True))
            below = [
                sum(a * b for a, b in zip(samples[number, row], way, strict=True)) < value
                for number in range(31)
            ]
            assert projections.ranks[row, one] == sum(below)
    found = check_sbc(coordinates)
    for one in range(3):
        fractions = np.sort(coordinates.ranks[:, one] / 31)
        # Kolmogorov-Smirnov: the largest distance of the two distribution functions, at both sides of each step
        place = np.arange(1, 91) / 90
        distance = max((place - fractions).max(), (fractions - (place - 1 / 90)).max())
        assert found.ks_p[one] == pytest.approx(stats.kstwo.sf(distance, 90), rel=1e-9)


def test_coverage_is_that_of_lemos(made):
    # Lemos et al. 2023: f = share of samples nearer to r than the truth; ECP(alpha) = share of truths with f < alpha
    truths, samples, points = made
    low, width = truths.min(axis=0), np.ptp(truths, axis=0)
    shares = []
    for row in range(90):

        def distance(theta, row=row):
            return sum(((a - r) / w) ** 2 for a, r, w in zip(theta, points[row], width, strict=True)) ** 0.5

        near = [distance(samples[number, row]) < distance(truths[row]) for number in range(31)]
        shares.append(sum(near) / 31)
    assert low.shape == (3,)
    coverage = run_tarp(truths, samples, points)
    assert (coverage.nearer / 31).tolist() == pytest.approx(shares)
    for alpha in (0.05, 0.31, 0.5, 0.77, 0.99):
        assert coverage.expected(alpha) == pytest.approx(np.mean([share < alpha for share in shares]))


def test_the_area_is_the_integral_of_the_curve(made):
    truths, samples, points = made
    coverage = run_tarp(truths, samples, points)
    middle = (coverage.nearer + 0.5) / 32
    alpha = 0.5 + (np.arange(200_000) + 0.5) / 400_000
    curve = np.searchsorted(np.sort(middle), alpha) / 90
    found = check_tarp(coverage)
    assert found.area.value == pytest.approx((curve - alpha).mean() / 2, abs=1e-5)
    assert found.area.value < 0  # too narrow
    whole = (np.arange(200_000) + 0.5) / 200_000
    curve = np.searchsorted(np.sort(middle), whole) / 90
    assert found.bias.value == pytest.approx((curve - whole).mean(), abs=1e-5)


def test_accuracy_is_that_of_lopez_paz():
    # Lopez-Paz and Oquab 2017: t = 1 / n_te sum of 1[1(f(x) > 1/2) = label], f being fitted here by scipy
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=(120, 2)), rng.normal(size=(120, 2)) * [1.0, 1.6] + [0.5, 0.0]
    groups = [row % 4 for row in range(120)]
    right = run_c2st(first, second, groups, folds=4, seed=0).correct
    labels = np.array(groups)
    for held in range(4):  # as many groups as folds: each fold is one group
        inside = labels == held
        known = np.concatenate([first[~inside], second[~inside]])
        mean, deviation = known.mean(axis=0), known.std(axis=0, ddof=1)

        def columns(data, mean=mean, deviation=deviation):
            z = (data - mean) / deviation
            return np.hstack([z, (z**2 - 1) / np.sqrt(2), np.ones((len(z), 1))])

        rows, sign = columns(known), np.repeat([-1.0, 1.0], (~inside).sum())

        def loss(w, rows=rows, sign=sign):
            return np.logaddexp(0, -sign * (rows @ w)).mean() + PENALTY / 2 * (w @ w)

        w = optimize.minimize(loss, np.zeros(5), method="BFGS", options={"gtol": 1e-9}).x
        for data, side, column in ((first, -1, 0), (second, 1, 1)):
            logit = columns(data[inside]) @ w
            sure = np.abs(logit) > 1e-3
            np.testing.assert_array_equal(right[inside, column][sure], (logit * side > 0)[sure])
    assert right.mean() > 0.55


def test_accuracy_of_shifted_normals_is_that_of_bayes():
    # N(0, 1) against N(delta, 1): no classifier is right more often than Phi(delta / 2), and logistic regression gets there
    rng = np.random.default_rng(8)
    first, second = rng.normal(size=(1500, 1)), 1.2 + rng.normal(size=(1500, 1))
    accuracy = check_c2st(run_c2st(first, second)).accuracy
    assert accuracy.low < stats.norm.cdf(0.6) < accuracy.high
