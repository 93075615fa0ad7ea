"""Errors of regressions over depth, for Gaussians whose least error is known, and learning curves."""

import numpy as np
import pytest

from invkit.errors import InputError
from invkit.measures.regressed import regression_curve
from invkit.statistics.convergence import Convergence, convergence
from invkit.statistics.tree import as_json

PATIENTS = np.repeat(np.arange(20), 8).tolist()
ENDED = Convergence(100, 0.0, 0.05)


def errors(noise, *, seed=0, pixels=400):
    """Return squared errors of E[x | z] for x ~ N(0, 30^2) HU and z = x + noise of these deviations."""
    rng = np.random.default_rng(seed)
    x = 30 * rng.normal(size=(160, pixels))
    added, found, z = rng.normal(size=(len(noise), 160, pixels)), {}, x
    for index, (name, deviation) in enumerate(noise.items()):
        z = z + deviation * added[index]  # each layer adds noise to the one before it: a chain
        total = sum(value**2 for value in list(noise.values())[: index + 1])
        found[name] = np.square(900 / (900 + total) * z - x).mean(axis=1)
    return found, np.square(x).mean(axis=1)


def curve(rows, const=None, **options):
    return regression_curve(rows, const, PATIENTS, convergence=dict.fromkeys(rows, ENDED), **options)


def test_the_error_of_a_gaussian_chain_and_its_order():
    rows, const = errors({"1": 3.0, "3": 10.0, "5": 20.0})
    found = curve(rows, const)
    for one, total in zip(found.rmse, (9, 109, 509), strict=True):
        assert one.value == pytest.approx((900 * total / (900 + total)) ** 0.5, rel=0.01)
        assert one.low < one.value < one.high
    assert found.const.value == pytest.approx(30, rel=0.01)
    assert found.trusted is True
    assert found.falls == () and found.reasons == ()


def test_an_error_that_falls_with_depth_is_named_in_hu():
    rows, _ = errors({"1": 3.0, "3": 10.0, "5": 20.0})
    found = curve({"1": rows["3"], "3": rows["1"], "5": rows["5"]})
    assert [(fall.shallow, fall.deep) for fall in found.falls] == [("1", "3")]
    expected = rows["3"].mean() ** 0.5 - rows["1"].mean() ** 0.5
    difference = found.falls[0].difference
    assert difference.value == pytest.approx(expected, rel=1e-9)
    assert difference.low < expected < difference.high
    assert found.trusted is False
    assert "which cannot be" in found.reasons[0]
    assert as_json(found)["falls"][0]["difference_hu"]["value"] == pytest.approx(expected)
    assert curve({"1": rows["3"], "3": rows["1"]}, bypassed=("1",)).trusted is True


def test_rounding_is_not_compared():
    tiny = np.full(160, 1e-6)
    assert curve({"1": 9 * tiny, "3": tiny}).falls == ()
    assert curve({"1": tiny}).rmse[0].value == pytest.approx(0.01)
    rows = errors({"1": 3.0})[0]["1"]
    assert [fall.shallow for fall in curve({"1": rows, "3": tiny}).falls] == ["1"]


def test_equal_layers_seldom_seem_to_fall():
    wrong = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        shared = rng.chisquare(40, size=160)
        rows = {str(layer): shared + rng.chisquare(40, size=160) for layer in range(6)}
        wrong += curve(rows, draws=400).trusted is False
    assert wrong / 30 <= 0.17


def test_a_regression_that_still_improved_is_not_trusted():
    rows, _ = errors({"1": 3.0, "3": 10.0})
    ended = {"1": ENDED, "3": Convergence(400, 0.2, 0.05)}
    found = regression_curve(rows, None, PATIENTS, convergence=ended)
    assert found.trusted is False
    assert found.reasons == (
        "The training of the regression from 3 had not converged: the second half of its steps still gained 0.2 HU, "
        "more than 0.05 HU.",
    )
    assert found.const is None
    assert [layer["converged"] for layer in as_json(found)["layers"]] == [True, False]


def test_one_patient_says_nothing_of_order():
    rows, _ = errors({"1": 10.0, "3": 3.0})
    ended = dict.fromkeys(rows, ENDED)
    assert regression_curve(rows, None, [0] * 160, convergence=ended).trusted is None


def test_rows_that_do_not_match_are_refused():
    with pytest.raises(InputError, match="same rows"):
        curve({"1": np.ones(160), "3": np.ones(159)})
    with pytest.raises(InputError, match="not negative"):
        curve({"1": -np.ones(160)})
    with pytest.raises(InputError, match="at least one layer"):
        curve({})


def test_the_gain_of_the_second_half():
    # 1 / step: at 45 of 90 steps it lies on the line between 1/40 and 1/50.
    steps = [(step, 1 / step) for step in range(10, 91, 10)]
    found = convergence(steps, tolerance=0.01, scale=2.0)
    assert found.gain == pytest.approx(((1 / 40 + 1 / 50) / 2 - 1 / 90) / 2)
    assert found.converged is True and found.steps == 90
    assert convergence(steps, tolerance=0.001, scale=2.0).converged is False


def test_the_best_state_so_far_counts():
    assert convergence([(0, 1.0), (50, 3.0), (100, 0.8)], tolerance=0.0).gain == pytest.approx(0.2)
    assert convergence([(0, 1.0), (50, 3.0), (100, 2.0)], tolerance=0.0).gain == 0.0


def test_what_got_worse_has_nothing_to_gain_and_what_stopped_had_converged():
    assert convergence([(1, 1.0), (50, 0.5), (100, 0.9)], tolerance=0.0).gain == 0.0
    stopped = convergence([(50, 0.5), (100, 0.1)], tolerance=0.01, stopped=True)
    assert stopped.gain == 0 and stopped.converged is True
    assert convergence(None, tolerance=0.01).converged is None
    assert convergence([(10, 1.0)], tolerance=0.01).converged is None
