"""Figures stay what measures gave until they are written: expanded, flattened, and as JSON."""

import json
import math
from dataclasses import dataclass

import numpy as np
import pytest

from invkit.statistics.intervals import Interval
from invkit.statistics.tree import as_json, expanded, leaves


@dataclass(frozen=True)
class Inner:
    share: Interval

    def figures(self):
        return {"share": self.share, "nothing": None}


@dataclass(frozen=True)
class Outer:
    inner: Inner

    def figures(self):
        return {"inner": self.inner, "rows": [self.inner, self.inner], "names": ["a", "b"], "count": 3}


FOUND = {"outer": Outer(Inner(Interval(0.5, 0.25, 0.75))), "plain": 2.0, "of a file": {"value": 1, "low": 0}}


def test_measures_become_mappings_and_intervals_stay():
    tree = expanded(FOUND)
    assert tree["outer"]["inner"]["share"] is FOUND["outer"].inner.share
    assert tree["outer"]["rows"][1]["share"].low == 0.25


def test_leaves_are_known_figures_under_dotted_keys():
    assert dict(leaves(FOUND)) == {
        "outer.inner.share": Interval(0.5, 0.25, 0.75),
        "outer.names": ["a", "b"],
        "outer.count": 3,
        "plain": 2.0,
        "of a file": {"value": 1, "low": 0},
    }


def test_json_is_written_of_all_and_can_be_read_back():
    found = as_json({**FOUND, "bad": math.nan, "numpy": np.float64(0.5)})
    assert found["outer"]["rows"][0] == {"share": {"value": 0.5, "low": 0.25, "high": 0.75}, "nothing": None}
    assert found["bad"] is None
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert Interval.of(found["outer"]["inner"]["share"]) == FOUND["outer"].inner.share


def test_what_is_no_figure_is_refused():
    with pytest.raises(TypeError, match="a set is no figure"):
        as_json({"odd": {1, 2}})
