"""What lies beyond the frame is hatched, to the pixel."""

from dataclasses import replace

from invkit.images.window import WINDOWS
from invkit.report.rows import certified_figure
from invkit.report.theme import LIGHT


def patches(layer, interior):
    proven = layer()
    proven = replace(proven, certified=proven.samples, certified_std=proven.std, interior=interior)
    figure = certified_figure("m", [proven], WINDOWS["abdomen"], LIGHT)
    return [patch for axes in figure.axes for patch in axes.patches if patch.get_hatch()]


def test_the_frame_is_hatched_and_the_interior_is_not(layer):
    height, width = layer().x.shape
    found = patches(layer, (slice(3, height - 4), slice(5, width)))
    area = sum(patch.get_width() * patch.get_height() for patch in found)
    assert area == height * width - (height - 7) * (width - 5)
    assert not any(patch.contains_point((0, 0)) and patch.get_fill() for patch in found)


def test_without_a_frame_nothing_is_hatched(layer):
    height, width = layer().x.shape
    assert patches(layer, None) == patches(layer, (slice(0, height), slice(0, width))) == []
