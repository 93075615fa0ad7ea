"""When a flow is called calibrated, and when a misfit matters, by figures that are put in."""

import numpy as np
import pytest

from invkit.calibration.record import CalibrationRecord
from invkit.statistics.tree import as_json


def accuracy(value, half=0.02):
    return {
        "holds": value - half <= 0.5,
        "accuracy": {"value": value, "low": value - half, "high": value + half},
    }


def record(*, distance=0.02, sbc=True, area=0.0, c2st=0.5, given_z=0.5, reach=(1.0, 0.95, 1.05)):
    tests = {
        "sbc": {"holds": sbc, "share_outside": 0.01},
        "tarp": {"holds": abs(area) < 0.02, "area": {"value": area, "low": area - 0.02, "high": area + 0.02}},
        "c2st": accuracy(c2st),
        "c2st_given_z": accuracy(given_z),
    }
    failing = [name for name, test in tests.items() if not test["holds"]]
    value, low, high = reach
    summary = {
        **tests,
        "holds": not failing,
        "failing": failing,
        "level": 0.95,
        "patches": 1024,
        "patients": 24,
        "reach": {"value": value, "low": low, "high": high},
    }
    curve = np.array([[0.0, 0.01], [-distance, 0.0]])
    return CalibrationRecord(
        summary,
        np.array([0.3, 0.6]),
        curve,
        curve - 1,
        curve + 1,
        np.array([False, False]),
        np.array([0, 2]),
        np.ones((3, 20), dtype=np.int64),
        np.zeros((4, 5)),
    )


def test_a_calibrated_flow_is_called_so():
    found = record()
    assert found.holds and not found.matters
    assert found.sentence("layer 3") == (
        "The flow for layer 3 is calibrated as far as the tests can tell, on 1,024 held-out patches of 24 patients."
    )


@pytest.mark.parametrize(
    ("figures", "matters"),
    [
        ({"sbc": False, "distance": 0.09}, False),
        ({"sbc": False, "distance": 0.11}, True),
        ({"sbc": True, "distance": 0.11, "area": 0.03}, False),
        ({"area": -0.06}, True),
        ({"c2st": 0.58}, False),
        ({"c2st": 0.62}, True),
        ({"given_z": 0.62}, True),
    ],
)
def test_a_misfit_matters_above_what_is_called_small(figures, matters):
    found = record(**figures)
    assert not found.holds
    assert found.matters is matters
    assert ("is not calibrated" in found.sentence("layer 3")) is matters
    assert as_json(found)["matters"] is matters


@pytest.mark.parametrize(
    ("reach", "word"),
    [
        ((1.3, 1.2, 1.4), "too narrow"),
        ((0.8, 0.7, 0.9), "too wide"),
        ((1.1, 0.9, 1.3), None),
        ((1.04, 1.03, 1.05), None),
    ],
)
def test_the_side_is_named_where_it_is_known(reach, word):
    said = record(c2st=0.8, reach=reach).sentence("layer 3")
    assert "C2ST fail" in said and "80 %" in said
    assert [name for name in ("too narrow", "too wide") if name in said] == ([word] if word else [])


def test_json_holds_what_the_file_holds():
    found = as_json(record(sbc=False, distance=0.2))
    assert found["sbc"] == {"holds": False, "distance": 0.2, "share_outside": 0.01}
    assert found["failing"] == ["sbc"]
    assert found["reach"]["value"] == 1.0
