"""The curve over the tolerance shows what is in the figures, and names every mark within it."""

import pytest

from invkit.report.curve import curve_figure
from invkit.report.theme import LIGHT

MARKS = {
    "float32": 1e-6,
    "bfloat16": 0.02,
    "int8": 0.099,
    "grey_level": 0.05,
    "tenth_of_repeat": 0.1,
    "repeat": 1.0,
}


def point(tolerance, noise):
    discs = [
        {"radius_px": r, "hidden_hu": 90 * tolerance / r, "identity_hidden_hu": 80 * tolerance / r}
        for r in (2.0, 8.0)
    ]
    return {
        "tolerance": tolerance,
        "hidden_hu": noise,
        "identity_hidden_hu": 30 * tolerance,
        "discs": discs,
    }


def metrics(noise=(0.4, 1.0, 15.0)):
    points = [point(t, n) for t, n in zip((0.02, 0.05, 1.0), noise, strict=True)]
    return {"curve": points, "tolerance": {"mark": "grey_level", "value": 0.05, "marks": MARKS}}


@pytest.fixture
def axes(layer):
    return curve_figure("m", [layer(metrics=metrics())], LIGHT).axes


def test_points_lie_where_the_figures_are(axes):
    noise, discs = axes
    ours, image = (line for line in noise.lines if len(line.get_xdata()) == 3)
    assert list(ours.get_xdata()) == [0.02, 0.05, 1.0] and list(ours.get_ydata()) == [0.4, 1.0, 15.0]
    assert list(image.get_ydata()) == pytest.approx([0.6, 1.5, 30.0])
    assert len([line for line in discs.lines if len(line.get_xdata()) == 3]) == 4


def test_marks_within_the_axis_are_named_once(axes):
    texts = [text.get_text() for text in axes[0].texts]
    assert texts == ["bfloat16", "1 grey level", "8 bits,\n1/10 scan", "repeat scan"]
    assert [text.get_weight() for text in axes[0].texts] == ["normal", "bold", "normal", "normal"]


def test_noise_that_was_not_drawn_is_left_out_and_layers_without_a_curve(layer):
    assert curve_figure("m", [layer(metrics={})], LIGHT) is None
    drawn = curve_figure("m", [layer(metrics=metrics((None, None, None)))], LIGHT).axes
    assert not [line for line in drawn[0].lines if len(line.get_xdata()) == 3]
    assert [line for line in drawn[1].lines if len(line.get_xdata()) == 3]
