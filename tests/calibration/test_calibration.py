"""Calibration against enumeration, closed forms, and the implementations of sbi."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from scipy import stats

from invkit.calibration import uniform as calibration
from invkit.calibration.c2st import check_c2st, run_c2st
from invkit.calibration.sbc import check_sbc, random_directions, run_sbc
from invkit.calibration.tarp import Coverage, check_tarp, run_tarp
from invkit.calibration.uniform import check_uniform, uniform_band
from invkit.errors import InputError


def gaussian(n, samples, d=2, *, width=1.0, shift=0.0, seed=0):
    """Return truths and samples of p(theta | x) for theta ~ N(0, 1), x ~ N(theta, 1), made wider and shifted."""
    rng = np.random.default_rng(seed)
    truths = rng.normal(size=(n, d))
    x = truths + rng.normal(size=(n, d))
    return truths, x / 2 + shift + width * np.sqrt(0.5) * rng.normal(size=(samples, n, d))


def of_sbi():
    """Return the truths, samples and random points for which sbi's figures were noted."""
    rng = np.random.default_rng(11)
    truths = rng.normal(size=(120, 2))
    x = truths + rng.normal(size=(120, 2))
    samples = x / 2 + 0.8 * np.sqrt(0.5) * rng.normal(size=(40, 120, 2))
    return truths, samples, rng.uniform(-3, 3, size=(120, 2)), rng


# bands


def test_the_probability_of_a_band_is_that_of_enumeration():
    n, samples = 4, 4
    position = np.arange(1, 5) / 5
    low, high = np.array([0, 0, 1, 2]), np.array([2, 3, 4, 4])
    inside = 0
    for ranks in itertools.product(range(samples + 1), repeat=n):
        counts = [(np.array(ranks) < j).sum() for j in range(1, 5)]
        inside += all(a <= count <= b for a, count, b in zip(low, counts, high, strict=True))
    assert calibration._inside(n, position, low, high) == pytest.approx(inside / 5**n, abs=1e-12)


@pytest.mark.parametrize(("n", "samples", "level"), [(60, 19, 0.95), (200, 99, 0.95), (150, 250, 0.8)])
def test_uniform_ranks_stay_inside_the_band_as_often_as_it_says(n, samples, level):
    position, low, high = uniform_band(n, samples, level)
    rng = np.random.default_rng(1)
    ranks = rng.integers(0, samples + 1, size=(3000, n))
    difference = np.stack([(ranks < j).mean(1) for j in np.rint(position * (samples + 1))], 1) - position
    inside = ((difference >= low - 1e-12) & (difference <= high + 1e-12)).all(axis=1).mean()
    assert level - 0.02 < inside < level + 0.035  # counts are whole, so a band holds at least what it says


def test_many_quantities_share_one_level():
    rng = np.random.default_rng(2)
    found = [check_uniform(rng.integers(0, 50, size=(100, 30)), 49) for _ in range(60)]
    assert np.mean([check.holds for check in found]) > 0.85
    assert 0.02 < np.mean([check.outside.mean() for check in found]) < 0.08


def test_patients_widen_the_band():
    rng = np.random.default_rng(3)
    patients = np.repeat(np.arange(24), 10).tolist()
    alone = together = 0
    for _ in range(40):
        normal = np.sqrt(0.4) * rng.normal(size=(24, 1, 2)) + np.sqrt(0.6) * rng.normal(size=(24, 10, 2))
        ranks = (stats.norm.cdf(normal).reshape(-1, 2) * 100).astype(int)
        alone += check_uniform(ranks, 99).holds
        together += check_uniform(ranks, 99, patients, draws=400).holds
    assert alone < 25
    assert together >= 34


def test_a_constant_rank_departs_with_and_without_patients():
    ranks = np.full((100, 1), 3)
    assert not check_uniform(ranks, 99).holds
    assert not check_uniform(ranks, 99, [i // 2 for i in range(100)], draws=200).holds


def test_refuses_ranks_that_cannot_be():
    with pytest.raises(InputError, match="from 0 to 9"):
        check_uniform([[10], [0]], 9)
    with pytest.raises(InputError, match=r"\(n, k\)"):
        check_uniform([1, 2], 9)
    with pytest.raises(InputError, match="one patient"):
        check_uniform([[1], [2]], 9, ["a", "a"])
    with pytest.raises(InputError, match="3 group labels for 2"):
        check_uniform([[1], [2]], 9, ["a", "a", "b"])
    with pytest.raises(InputError, match="level"):
        uniform_band(10, 9, 95)


# ranks


def test_ranks_count_the_samples_below():
    found = run_sbc(torch.tensor([[0.5, -1.0]]), torch.tensor([[[0.0, 0.0]], [[1.0, -2.0]], [[0.2, 3.0]]]))
    assert found.ranks.tolist() == [[2, 1]]
    assert found.samples == 3
    assert found.names == ("code 0", "code 1")
    turned = run_sbc([[0.5, -1.0]], [[[0.0, 0.0]], [[1.0, -2.0]], [[0.2, 3.0]]], [[0.0, 1.0]], name="way")
    assert found.joined(turned).ranks.tolist() == [[2, 1, 1]]
    assert found.joined(turned).names[-1] == "way 0"


def test_equals_get_a_uniform_rank():
    found = run_sbc(np.zeros((4000, 1)), np.zeros((4, 4000, 1)))
    assert stats.chisquare(np.bincount(found.ranks[:, 0], minlength=5)).pvalue > 0.01


def test_a_calibrated_posterior_passes_and_its_false_copies_do_not():
    assert check_sbc(run_sbc(*gaussian(300, 99))).holds
    for wrong in ({"width": 0.7}, {"width": 1.4}, {"shift": 0.3}):
        check = check_sbc(run_sbc(*gaussian(300, 99, **wrong)))
        assert not check.holds
        assert check.ks_p.min() < 0.01
        assert check.failing == check.names
        assert check.to_json()["share_outside"] == 1.0


def test_directions_see_a_correlation_that_coordinates_do_not():
    rng = np.random.default_rng(4)
    truths = rng.normal(size=(400, 1)) * np.array([1.0, 1.0])
    samples = rng.normal(size=(99, 400, 2))
    assert check_sbc(run_sbc(truths, samples)).holds
    assert not check_sbc(run_sbc(truths, samples, random_directions(2, 8, seed=0))).holds


def test_the_largest_departure_is_above_one_where_the_band_is_left():
    rng = np.random.default_rng(5)
    for width, inside in ((1.0, True), (0.6, False), (1.7, False)):
        truths, samples = rng.normal(size=(600, 3)), width * rng.normal(size=(99, 600, 3))
        found = check_sbc(run_sbc(truths, samples)).uniformity
        assert (found.largest <= 1) == found.holds == inside


def test_directions_have_length_one():
    np.testing.assert_allclose(np.linalg.norm(random_directions(5, 7, seed=1), axis=1), 1.0)


@pytest.mark.parametrize("run", [run_sbc, run_tarp])
def test_refuses_truths_and_samples_that_do_not_match(run):
    with pytest.raises(InputError, match="truths must have shape"):
        run(np.zeros((3, 2)), np.zeros((3, 2)))
    with pytest.raises(InputError, match="not finite"):
        run(np.zeros((1, 1)), np.full((2, 1, 1), np.nan))


def test_joins_only_ranks_of_the_same_truths():
    one = run_sbc(np.zeros((2, 1)), np.ones((3, 2, 1)))
    with pytest.raises(InputError, match="cannot be joined"):
        one.joined(run_sbc(np.zeros((2, 1)), np.ones((4, 2, 1))))
    with pytest.raises(InputError, match="directions"):
        run_sbc(np.zeros((2, 1)), np.ones((3, 2, 1)), [[1.0, 2.0]])


# coverage


def test_the_area_of_known_coverage():
    even = Coverage(np.arange(100), 99)
    assert check_tarp(even).area.value == pytest.approx(0.0, abs=1e-12)
    assert check_tarp(even).bias.value == pytest.approx(0.0, abs=1e-12)
    middle = Coverage(np.full(50, 50), 100)
    assert check_tarp(middle).area.value == pytest.approx(1 / 8)
    ends = Coverage(np.repeat([0, 10**6], 25), 10**6)
    assert check_tarp(ends).area.value == pytest.approx(-1 / 8, abs=1e-5)
    np.testing.assert_allclose(even.expected([0.0, 0.5, 1.0]), [0.0, 0.5, 0.99])


def test_area_tells_narrow_from_wide_and_passes_what_is_calibrated():
    assert check_tarp(run_tarp(*gaussian(300, 99, seed=6))).holds
    narrow = check_tarp(run_tarp(*gaussian(300, 99, width=0.6, seed=6)))
    wide = check_tarp(run_tarp(*gaussian(300, 99, width=1.6, seed=6)))
    assert narrow.area.high < 0 < wide.area.low
    assert not narrow.holds
    assert not wide.holds
    assert not narrow.curve.holds
    assert not wide.to_json()["curve_inside"]


def test_one_random_point_a_truth():
    truths, samples = gaussian(10, 5)
    with pytest.raises(InputError, match="one random point"):
        run_tarp(truths, samples, np.zeros((9, 2)))


# classifier


@pytest.mark.parametrize("hidden", [0, 12])
def test_accuracy_is_that_of_the_best_classifier(hidden):
    rng = np.random.default_rng(5)
    first, second = rng.normal(size=(500, 2)), rng.normal(size=(500, 2))
    assert check_c2st(run_c2st(first, second, hidden=hidden)).holds
    second[:, 0] += 1.5
    shifted = check_c2st(run_c2st(first, second, hidden=hidden))
    assert not shifted.holds
    assert shifted.accuracy.value == pytest.approx(stats.norm.cdf(0.75), abs=0.04)


def test_squares_see_a_wrong_variance():
    rng = np.random.default_rng(6)
    first, second = rng.normal(size=(600, 1)), 3 * rng.normal(size=(600, 1))
    edge = np.sqrt(2 * np.log(3) / (1 - 1 / 9))  # where both densities are equal
    best = 0.5 + (stats.norm.cdf(edge) - stats.norm.cdf(-edge)) / 2
    best -= (stats.norm.cdf(edge / 3) - stats.norm.cdf(-edge / 3)) / 2
    assert check_c2st(run_c2st(first, second)).accuracy.value == pytest.approx(best, abs=0.03)


def test_pairs_stay_in_one_fold():
    rng = np.random.default_rng(7)
    z = rng.normal(size=(200, 6))
    first, second = (np.hstack([z, rng.normal(size=(200, 1))]) for _ in range(2))
    patients = [i // 4 for i in range(200)]
    accuracy = check_c2st(run_c2st(first, second, patients, hidden=16)).accuracy
    assert accuracy.low < 0.5 < accuracy.high
    assert run_c2st(first, second, patients).correct.shape == (200, 2)


def test_refuses_samples_that_cannot_be_compared():
    with pytest.raises(InputError, match="same shape"):
        run_c2st(np.zeros((3, 1)), np.zeros((4, 1)))
    with pytest.raises(InputError, match="5 folds"):
        run_c2st(np.zeros((9, 1)), np.zeros((9, 1)), [0] * 5 + [1] * 4)
    with pytest.raises(InputError, match="2 group labels"):
        run_c2st(np.zeros((9, 1)), np.zeros((9, 1)), [0, 1])
    with pytest.raises(InputError, match="not finite"):
        run_c2st(np.full((9, 1), np.inf), np.zeros((9, 1)))


# the implementations of sbi


def test_figures_are_those_of_sbi_0_27_0():
    truths, samples, points, _ = of_sbi()
    ranks = run_sbc(truths, samples)
    assert ranks.ranks[:8].tolist() == [
        [14, 39],
        [38, 13],
        [14, 14],
        [11, 0],
        [32, 2],
        [32, 9],
        [9, 21],
        [7, 4],
    ]
    assert ranks.ranks.sum(axis=0).tolist() == [2317, 2340]
    assert (ranks.ranks**2).sum(axis=0).tolist() == [63935, 65146]
    np.testing.assert_allclose(check_sbc(ranks).ks_p, [0.2499121129512787, 0.3555137515068054], rtol=1e-6)
    coverage = run_tarp(truths, samples, points)
    found = coverage.expected(np.arange(12) / 12)
    sbi = [0.0, 0.1, 0.141667, 0.191667, 0.316667, 0.4, 0.508333, 0.583333, 0.616667, 0.7, 0.825, 0.858333]
    np.testing.assert_allclose(found, sbi, atol=1e-6)
    # sbi adds up steps of 1 / 12
    assert check_tarp(coverage).area.value == pytest.approx(-0.01319445762783289, abs=0.01)


def test_figures_are_those_of_the_installed_sbi():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sbi.diagnostics import sbc, tarp
        from sbi.utils import metrics

        truths, samples, points, rng = of_sbi()
        truth, draws, point = (torch.from_numpy(data) for data in (truths, samples, points))
        ranks = sbc._run_sbc(truth, truth, draws, "marginals", False)
        p = sbc.check_uniformity_frequentist(ranks, len(draws))
        covered, credibility = tarp._run_tarp(draws, truth, point, z_score_theta=True)
        first, second = (
            torch.from_numpy(rng.normal(size=(600, 2))),
            torch.from_numpy(rng.normal(size=(600, 2))),
        )
        second[:, 0] += 1.5
        forest = metrics.c2st(first, second).item()
    ours = run_sbc(truth, draws)
    np.testing.assert_array_equal(ours.ranks, ranks.numpy())
    np.testing.assert_allclose(check_sbc(ours).ks_p, p.numpy(), rtol=1e-5)
    expected = run_tarp(truth, draws, points).expected(credibility.double().numpy().round(7))
    np.testing.assert_allclose(expected[:-1], covered[:-1].numpy(), atol=1e-6)
    assert check_c2st(run_c2st(first, second)).accuracy.value == pytest.approx(forest, abs=0.03)
