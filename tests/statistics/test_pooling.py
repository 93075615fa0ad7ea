"""Figures over slices: root mean squares and means in closed form, and intervals only where slices differ."""

import pytest

from invkit.statistics.intervals import Interval
from invkit.statistics.pooling import leaves, pooled


def test_what_a_slice_lacks_is_left_out():
    rows = [
        {"a_hu": 3.0, "b": 1, "yes": True, "c": {"d": 2.0}},
        {"a_hu": {"value": 4.0, "low": 3, "high": 5}, "b": 2},
    ]
    found = pooled(rows, seed=0)
    assert dict(leaves(found)) == pytest.approx({"a_hu": 12.5**0.5, "b": 1.5})


def test_a_figure_that_all_slices_share_is_shown_once_and_another_with_its_interval():
    rows = [{"count": 2, "a_hu": -0.1, "other": value} for value in (1.0, 2.0, 4.0)]
    found = pooled(rows, seed=0)
    assert found["count"] == 2.0 and Interval.of(found["count"]).text() == "2"
    assert found["a_hu"] == 0.1
    assert found["other"]["value"] == pytest.approx(7 / 3)
    assert found["other"]["low"] < 7 / 3 < found["other"]["high"]
