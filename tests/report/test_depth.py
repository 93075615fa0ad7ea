"""Figures over depth and of calibration show what the curves hold."""

import dataclasses

import numpy as np
import pytest

from invkit.calibration.record import CalibrationRecord
from invkit.measures.regressed import RegressionCurve
from invkit.measures.retained import RetainedCurve, Rise
from invkit.report.calibration import HIGHEST, calibration_figure
from invkit.report.depth import depth_figure
from invkit.report.table import rows
from invkit.report.theme import LIGHT, render
from invkit.statistics.convergence import Convergence
from invkit.statistics.intervals import Interval

DONE, SHORT = Convergence(100, 0.001, 0.005), Convergence(100, 0.02, 0.005)
RETAINED = RetainedCurve(
    ("1", "3", "5"),
    (Interval(0.9, 0.88, 0.92), Interval(0.7, 0.68, 0.72), Interval(0.8, 0.78, 0.82)),
    (Rise("3", "5", Interval(0.1, 0.05, 0.15)),),
    ("not in order",),
    False,
    (DONE, SHORT, DONE),
)
REGRESSION = RegressionCurve(
    ("1", "3", "5"),
    (Interval(3.0, 2.9, 3.1), Interval(17.0, 16.0, 18.0), Interval(30.0, 28.0, 32.0)),
    Interval(400.0),
    (),
    (DONE, DONE, DONE),
    (),
    True,
)


def circles(axes):
    return [line for line in axes.lines if line.get_marker() == "o"]


def test_both_curves_stand_side_by_side_with_what_had_not_converged():
    figure = depth_figure("yang2018", RETAINED, REGRESSION, LIGHT)
    left, right = figure.axes
    assert [line.get_ydata()[0] for line in circles(left)] == [0.9, 0.7, 0.8]
    assert [line.get_markerfacecolor() == LIGHT.background for line in circles(left)] == [False, True, False]
    assert [line.get_ydata()[0] for line in circles(right)] == [3.0, 17.0, 30.0]
    assert right.get_yscale() == "log"
    joined = [line for line in left.lines if line.get_color() == LIGHT.series[4]]
    assert [list(line.get_xdata()) for line in joined] == [[1, 2]]
    assert not [line for line in right.lines if line.get_color() == LIGHT.series[4]]
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "impossible order" in said and "not converged, or unknown" in said


def test_one_layer_has_no_depth():
    one = dataclasses.replace(
        RETAINED, layers=("1",), retained=RETAINED.retained[:1], convergence=(DONE,), rises=()
    )
    assert depth_figure("yang2018", one, None, LIGHT) is None
    assert depth_figure("yang2018", None, None, LIGHT) is None
    assert len(depth_figure("yang2018", RETAINED, None, LIGHT).axes) == 1


@pytest.fixture
def record():
    position = np.linspace(0.05, 0.95, 19)
    difference = np.stack([np.zeros(19), 0.3 * (0.5 - position), np.full(19, 0.01)], axis=1)
    band = np.full((19, 3), 0.1)
    histogram = np.full((3, 20), 7)
    histogram[2] = 0
    histogram[2, -1] = 140
    coverage = np.stack([position, np.zeros(19), np.full(19, -0.05), np.full(19, 0.05)])
    departs = np.array([False, True, False])
    return CalibrationRecord(
        {}, position, difference, -band, band, departs, np.array([0, 1, 2]), histogram, coverage
    )


def test_ranks_histogram_and_coverage_of_each_layer(record):
    figure = calibration_figure("yang2018", [("3", record), ("5", record)], LIGHT)
    assert len(figure.axes) == 6
    ranks, histogram, coverage = figure.axes[:3]
    shown = {line.get_color(): line.get_ydata() for line in ranks.lines}
    assert set(shown) == {LIGHT.series[0], LIGHT.series[1], LIGHT.text}
    np.testing.assert_allclose(shown[LIGHT.series[1]], record.difference[:, 1])
    assert histogram.get_ylim()[1] == HIGHEST
    curve = next(line for line in coverage.lines if line.get_color() == LIGHT.series[3])
    np.testing.assert_allclose(curve.get_ydata(), curve.get_xdata())
    assert calibration_figure("yang2018", [], LIGHT) is None


def test_equal_figures_give_equal_bytes(record):
    for build in (
        lambda theme: depth_figure("a $b$", RETAINED, REGRESSION, theme),
        lambda theme: calibration_figure("a $b$", [("3", record)], theme),
    ):
        assert render(build, LIGHT) == render(build, LIGHT)


def test_lists_among_the_figures_are_shown():
    found = {
        row.key: row.value for row in rows({"calibration": {"failing": ["sbc", "c2st"], "holds": False}})
    }
    assert found == {"calibration.failing": "sbc, c2st", "calibration.holds": "False"}
    assert rows({"calibration": {"failing": []}})[0].value == "none"
