import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

import invkit
from invkit.errors import InputError
from invkit.statistics.intervals import Interval, bootstrap, number, percent, predicted


def test_covers_a_gaussian_mean_as_often_as_it_says():
    rng = np.random.default_rng(1)
    trials = rng.normal(3.0, 2.0, size=(400, 60))
    covered = [
        interval.low <= 3.0 <= interval.high for interval in (bootstrap(t, draws=400, seed=7) for t in trials)
    ]
    assert 0.91 <= np.mean(covered) <= 0.98


@pytest.mark.parametrize("statistic", [np.mean, np.median, np.std])
def test_agrees_with_scipy(statistic):
    values = np.random.default_rng(2).gamma(2.0, size=50)
    ours = bootstrap(values, statistic, draws=20000, seed=3)
    theirs = stats.bootstrap(
        (values,), statistic, n_resamples=20000, method="percentile", rng=np.random.default_rng(4)
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.value == pytest.approx(statistic(values))
    assert ours.low == pytest.approx(theirs.low, abs=0.03 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.03 * width)


def test_width_of_a_clustered_mean_is_that_of_the_clusters():
    rng = np.random.default_rng(5)
    patients = rng.normal(size=40)
    values = np.repeat(patients, 25)
    groups = np.repeat(np.arange(40), 25).tolist()
    clustered = bootstrap(values, groups=groups, seed=1, draws=4000)
    per_patient = bootstrap(patients, seed=2, draws=4000)
    naive = bootstrap(values, seed=1, draws=4000)
    assert clustered.high - clustered.low == pytest.approx(per_patient.high - per_patient.low, rel=0.06)
    assert (clustered.high - clustered.low) > 4 * (naive.high - naive.low)


def test_groups_of_unequal_size_weigh_the_mean_by_size():
    values, groups = [1.0, 1.0, 1.0, 5.0], ["a", "a", "a", "b"]
    interval = bootstrap(values, groups=groups, draws=2000)
    assert (interval.value, interval.low, interval.high) == (2.0, 1.0, 5.0)
    looped = bootstrap(values, np.median, groups=groups, draws=500)
    assert (looped.value, looped.low, looped.high) == (1.0, 1.0, 5.0)


def test_same_seed_same_interval():
    values = torch.arange(20.0)
    assert bootstrap(values, seed=3) == bootstrap(values, seed=3)
    assert bootstrap(values, seed=3) != bootstrap(values, seed=4)


def test_one_patient_has_no_interval():
    interval = bootstrap([1.0, 2.0], groups=["a", "a"])
    assert interval.value == 1.5
    assert not interval.known
    assert interval.to_json() == 1.5


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf], [[1.0], [2.0]]])
def test_unusable_values_are_refused(values):
    with pytest.raises(InputError):
        bootstrap(values)


def test_wrong_labels_and_level_are_refused():
    with pytest.raises(InputError, match="2 group labels for 3"):
        bootstrap([1.0, 2.0, 3.0], groups=["a", "b"])
    with pytest.raises(InputError, match="level"):
        bootstrap([1.0, 2.0], level=95)


def test_json_round_trip_and_words():
    interval = Interval(41.234, 38.0, 44.5)
    assert Interval.of(json.loads(json.dumps(interval.to_json()))) == interval
    assert interval.text("HU") == "41.2 HU [38.0, 44.5]"
    assert Interval(-1.055, -1.06, -1.05).text() == "-1.055 [-1.060, -1.050]"
    assert Interval(0.0, 0.0, 0.0).text() == "0 [0, 0]"
    assert Interval.of(2).text() == "2"
    assert Interval(math.nan).to_json() is None
    assert number(math.inf) == "infinite"
    assert [number(value) for value in (999.4, 999.6, -999.6, 123456.7, 0.0123)] == [
        "999",
        "1,000",
        "-1,000",
        "123,457",
        "0.0123",
    ]
    assert [percent(share) for share in (0.0123, 1.1, 32.0)] == ["1.23 %", "110 %", "3,200 %"]


def test_figures_for_people_are_written_by_one_function():
    """`{value:.2g}` writes 110 as 1.1e+02; only `number` may, for what is a million or more, or what is no figure of a result."""
    allowed = {
        "statistics/intervals.py",
        "data/dicom/write.py",
        "training/engine.py",
        "flow/store.py",
        "report/rows.py",
    }
    package = Path(invkit.__file__).parent
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(r":[+,]?\.\d+[ge]\}", path.read_text(encoding="utf-8"))
    }
    assert found == allowed


def test_the_root_of_a_mean_of_squares_has_no_bound_below_0():
    root = Interval(4.0, -1.0, 9.0).root()
    assert (root.value, root.low, root.high) == (2.0, 0.0, 3.0)
    alone = Interval(4.0).root()
    assert alone.value == 2 and not alone.known


def test_above_needs_both_intervals():
    assert Interval(2, 1.5, 2.5).above(Interval(1, 0.5, 1.4))
    assert not Interval(2, 1.3, 2.5).above(Interval(1, 0.5, 1.4))
    assert Interval(2).above(Interval(1, 0.5, 1.4))


def test_another_value_lies_in_the_predicted_interval_as_often_as_it_says():
    values = np.exp(np.random.default_rng(0).normal(1.0, 0.4, size=(2000, 7)))
    within = [found.low <= row[-1] <= found.high for row in values for found in [predicted(row[:-1])]]
    assert np.mean(within) == pytest.approx(0.95, abs=0.015)
    found = predicted(values[0])
    logs = np.log(values[0])
    assert found.value == pytest.approx(stats.gmean(values[0]))
    low, high = stats.t.interval(0.95, 6, logs.mean(), logs.std(ddof=1) * (1 + 1 / 7) ** 0.5)
    assert (found.low, found.high) == pytest.approx((np.exp(low), np.exp(high)))
    assert not predicted([2.0]).known
    with pytest.raises(InputError, match="must be positive"):
        predicted([1.0, 0.0])
