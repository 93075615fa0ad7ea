"""What lies beyond the frame is hatched, to the pixel; a change that hides has a row of images."""

from dataclasses import replace

import numpy as np
from report_data import make_layer

from invkit.images.window import WINDOWS
from invkit.report.data import Change
from invkit.report.rows import certified_figure, changes_figure
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


def change(group="hidden", side=32, most=20.0):
    x = np.random.default_rng(0).normal(40, 20, (side, side))
    structure = np.zeros_like(x)
    structure[4, 4] = -most
    return Change(group, "a disc of 20 HU", x, x + 0.5 * structure, structure, 0.9 * x, 0.9 * x)


def drawn(*layers, group="hidden"):
    return changes_figure("title", layers, group, WINDOWS["abdomen"], LIGHT)


def test_a_row_has_x_the_other_image_their_difference_the_structure_and_f_of_both():
    layer = replace(make_layer(), changes=[change(), change("structure")])
    figure = drawn(layer)
    images = [axes.images[0] for axes in figure.axes]
    assert len(images) == 6
    one = layer.changes[0]
    expected = (one.x, one.changed, one.changed - one.x, one.structure, one.f_x, one.f_changed)
    for image, pixels in zip(images, expected, strict=True):
        assert np.array_equal(image.get_array(), pixels)
    assert [image.get_clim() for image in images[2:4]] == [(-10, 10), (-20, 20)]
    said = [text.get_text() for text in figure.texts]
    assert {"Difference, ±10 HU", "Structure in it, ±20 HU", "A disc of 20 HU"} <= set(said)


def test_rows_of_several_layers_name_them_and_may_differ_in_size():
    layers = [replace(make_layer(key), changes=[change(side=side)]) for key, side in (("1", 32), ("3", 48))]
    figure = drawn(*layers)
    assert len(figure.axes) == 12
    assert {"Layer 1: a disc of 20 HU", "Layer 3: a disc of 20 HU"} <= {t.get_text() for t in figure.texts}


def test_without_a_change_of_the_group_there_is_no_figure():
    assert drawn(make_layer()) is None
    assert drawn(replace(make_layer(), changes=[change()]), group="structure") is None
