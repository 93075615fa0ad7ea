"""The curve of spreads is drawn from the figures of the JSON output, and left out where there is none."""

import pytest
from report_data import METRICS, make_layer

from invkit.report.curve import curve_figure, curve_points
from invkit.report.table import rows
from invkit.report.theme import LIGHT, render
from invkit.statistics.intervals import Interval

CURVE = [
    {"epsilon": 0.1, "spread_hu": {"value": 30.0, "low": 28.0, "high": 31.0}, "spread_epsilon_hu": 60.0},
    {"epsilon": 0.01, "spread_hu": 12.0, "spread_epsilon_hu": 6.0},
    {"epsilon": 0.001, "spread_hu": {"value": 2.0, "low": 1.8, "high": 2.2}, "spread_epsilon_hu": 0.6},
    {"epsilon": 0.0001, "spread_hu": None, "spread_epsilon_hu": 0.06},
]
CERTIFIED = {
    "count": 16,
    "refined": 16,
    "epsilon": 0.001,
    "spread_hu": Interval(2.0, 1.8, 2.2),
    "curve": CURVE,
}


def layer(key="3", curve=CURVE):
    return make_layer(key, metrics=METRICS | {"certified": CERTIFIED | {"curve": curve}})


def test_the_lines_are_the_figures():
    figures = []

    def build(theme):
        figures.append(curve_figure("Title", [layer()], theme))
        return figures[-1]

    assert render(build, LIGHT)[0].startswith(b"\x89PNG")
    (axes,) = figures[0].axes
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines["Certified samples"].get_xdata()) == [0.1, 0.01, 0.001]
    assert list(lines["Certified samples"].get_ydata()) == [30.0, 12.0, 2.0]
    assert list(lines["Allowed by epsilon alone"].get_ydata()) == [60.0, 6.0, 0.6, 0.06]
    assert list(lines["At the default epsilon"].get_xdata()) == [0.001]
    assert list(lines["Noise at this dose"].get_xdata()) == [0.3, 0.3]
    assert axes.get_xscale() == axes.get_yscale() == "log"


def test_every_layer_has_its_line():
    figures = []

    def build(theme):
        figures.append(curve_figure("Title", [layer("3"), layer("$5$"), make_layer("7")], theme))
        return figures[-1]

    render(build, LIGHT)
    labels = [line.get_label() for line in figures[0].axes[0].lines]
    assert "Layer 3" in labels
    assert any("5" in label for label in labels if label.startswith("Layer"))
    assert "Layer 7" not in labels


@pytest.mark.parametrize(
    "layers", [[make_layer()], [layer(curve=[])], [layer(curve=CURVE[-1:])]], ids=["none", "empty", "unknown"]
)
def test_without_a_curve_there_is_no_figure(layers):
    assert curve_figure("Title", layers, LIGHT) is None


def test_a_curve_is_no_row_of_the_table():
    assert curve_points(layer()) == CURVE
    assert not [row for row in rows(layer().metrics) if "curve" in row.key]
    assert [row for row in rows(layer().metrics) if row.key == "certified.epsilon"]
