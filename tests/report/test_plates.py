import base64
import io
import itertools
import re
import xml.etree.ElementTree as ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image

from invkit.images.window import Window
from invkit.report.plates import plates
from invkit.report.plots import references_figure, spectrum_figure
from invkit.report.rows import checks_figure, samples_figure, std_limit, windowed_png
from invkit.report.theme import DARK, LIGHT, label, recoloured, render
from invkit.verdict.measures import REFERENCES

WINDOW = Window(50, 400)
BUILDERS = {
    "samples": lambda layers, theme: samples_figure("yang2018", layers, WINDOW, theme),
    "checks": lambda layers, theme: checks_figure("yang2018", layers, WINDOW, theme),
    "references": lambda layers, theme: references_figure("yang2018", layers, theme),
    "spectrum": lambda layers, theme: spectrum_figure("yang2018", layers, theme),
}


def built(name, layers, theme=LIGHT):
    """Return a figure as it is drawn, for a look at its artists."""
    kept = []

    def build(theme):
        kept.append(BUILDERS[name](layers, theme))
        return kept[0]

    render(build, theme)
    return kept[0]


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("keys", [("3",), ("1", "3", "output")])
@pytest.mark.parametrize("shape", [(32, 32), (24, 48)])
def test_no_text_meets_another_or_leaves_the_figure(name, keys, shape, layer, monkeypatch):
    drawn = {}
    draw = Text.draw

    def watched(self, renderer):
        draw(self, renderer)
        if self.get_visible() and self.get_text().strip():
            drawn[id(self)] = (self.get_text(), self.get_window_extent(renderer))

    monkeypatch.setattr(Text, "draw", watched)
    figure = BUILDERS[name]([layer(key, shape=shape, seed=index) for index, key in enumerate(keys)], LIGHT)
    FigureCanvasAgg(figure).draw()
    boxes = list(drawn.values())
    assert len(boxes) > 6
    for text, box in boxes:
        assert box.x0 >= -1, text
        assert box.y0 >= -1, text
        assert box.x1 <= figure.bbox.width + 1, text
        assert box.y1 <= figure.bbox.height + 1, text
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        meet = min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1
        assert not meet, (one, other)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_figures_are_neither_empty_nor_changing(theme, layer):
    layers = [layer()]
    first = render(lambda t: samples_figure("m", layers, WINDOW, t), theme, ("png", "svg"))
    again = render(lambda t: samples_figure("m", layers, WINDOW, t), theme, ("png", "svg"))
    assert first == again
    image = np.asarray(Image.open(io.BytesIO(first[0])).convert("L"), dtype=float)
    assert image.shape[1] > 1500
    assert image.std() > 20


def drawing(svg):
    """Return what an SVG draws: elements with their presentation, from style or attributes, without ids."""
    found = []
    for element in ElementTree.fromstring(svg).iter():
        attributes = {key: value for key, value in element.attrib.items() if key not in ("id", "style")}
        styles = (one.split(":") for one in element.get("style", "").split(";") if one.strip())
        attributes |= {key.strip(): value.strip() for key, value in styles}
        if not element.tag.endswith(("svg", "style", "metadata")):
            found.append(
                (element.tag, re.sub(r"#[a-zA-Z_]+[0-9a-f]{10}", "#", str(sorted(attributes.items()))))
            )
    return found


@pytest.mark.parametrize("name", BUILDERS)
def test_recoloured_figures_are_what_the_other_theme_draws(name, layer):
    layers = [layer("1"), layer("3")]
    light, dark = (render(lambda t: BUILDERS[name](layers, t), theme, ("svg",))[0] for theme in (LIGHT, DARK))
    made = recoloured(light, LIGHT, DARK)
    assert drawing(made) == drawing(dark) != drawing(light)
    assert b"style" not in made
    root = ElementTree.fromstring(made).attrib
    assert (root["stroke-linejoin"], root["stroke-linecap"]) == ("round", "butt")


def test_colours_of_a_theme_are_told_apart():
    for theme in (LIGHT, DARK):
        assert len(set(theme.colours)) == len(theme.colours) == len(LIGHT.colours)


def test_images_keep_their_own_pixels_in_svg(layer):
    (svg,) = render(lambda t: samples_figure("m", [layer(shape=(24, 48))], WINDOW, t), LIGHT, ("svg",))
    data = re.findall(rb"base64,\s*([^\"]+)", svg)
    sizes = [Image.open(io.BytesIO(base64.b64decode(one))).size for one in data]
    assert sizes.count((48, 24)) == 7


def test_settings_of_the_user_neither_count_nor_change(layer):
    before = dict(mpl.rcParams)
    plain = render(lambda t: references_figure("m", [layer()], t), LIGHT)
    assert dict(mpl.rcParams) == before
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        assert render(lambda t: references_figure("m", [layer()], t), LIGHT) == plain


def test_images_and_std_maps_have_their_scales(layer):
    one = layer()
    figure = built("samples", [one])
    images = [
        axes.images[0] for axes in figure.axes if axes.images and axes.images[0].get_array().shape == (32, 32)
    ]
    assert len(images) == 7
    assert all(image.get_clim() == WINDOW.limits for image in images[:6])
    assert images[6].get_clim() == (0.0, std_limit([one.std]))
    texts = " ".join(text.get_text() for text in figure.findobj(Text))
    assert "centre 50, width 400 HU" in texts


def test_std_scale_is_common_and_survives_outliers_and_zero():
    maps = [np.full((100, 100), 5.0), np.full((100, 100), 8.0)]
    maps[0][0, 0] = 1e6
    assert std_limit(maps) == 8.0
    assert std_limit([np.zeros((4, 4))]) == 1.0


def test_what_is_missing_is_left_out(layer, report):
    bare = layer(full=False, metrics={}, shape=(12, 12))
    assert checks_figure("m", [bare], WINDOW, LIGHT) is None
    assert references_figure("m", [bare], LIGHT) is None
    assert spectrum_figure("m", [bare], LIGHT) is None
    assert plates(report(bare)) == []


def test_references_are_placed_at_their_values(layer):
    figure = built("references", [layer()])
    axes = figure.axes[0]
    points = sorted(line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o")
    assert points == [0.1, 0.11, 0.13, 0.7, 1.0]
    assert axes.get_xscale() == "log"


@pytest.mark.parametrize("eta", [0.003, 0.05, 4.0])
def test_the_line_of_the_dose_noise_lies_within_the_axis(layer, eta):
    metrics = {"fiber_error": {"samples": 0.1, "random": 1.0}, "noise_distance": eta}
    (axes,) = built("references", [layer(metrics=metrics)]).axes
    low, high = axes.get_xlim()
    assert low < eta < high


def test_all_references_of_one_layer_are_drawn_and_the_chief_ones_of_several(layer):
    everything = {name: 0.05 * (1 + index) for index, name in enumerate(REFERENCES)}
    one = layer(metrics={"fiber_error": everything, "noise_distance": 0.3})

    def points(figure):
        return [line for line in figure.axes[0].lines if line.get_marker() == "o"]

    assert len(points(built("references", [one]))) == len(REFERENCES) == 10
    assert len(points(built("references", [one, one]))) == 2 * 5


def test_references_with_a_zero_are_linear(layer):
    figure = built("references", [layer(metrics={"fiber_error": {"samples": 0.0, "random": 1.0}})])
    assert figure.axes[0].get_xscale() == "linear"


HOSTILE = ["$\\frac{1", "\\alpha $ $", "层 3 \U0001f600", "a\nb\x1b[31m", "x" * 500]


@pytest.mark.parametrize("name", BUILDERS)
def test_hostile_names_are_drawn_without_a_warning(name, layer):
    built(name, [layer(text, note=text, shape=(24, 24)) for text in HOSTILE])


@pytest.mark.parametrize("text", HOSTILE)
def test_labels_are_short_and_hold_no_control_characters(text):
    assert len(label(text)) <= 90
    assert label(text).isprintable()


def test_png_of_an_image_is_its_window():
    image = np.array([[-150.0, 50.0], [250.0, 4000.0]])
    decoded = np.asarray(Image.open(io.BytesIO(windowed_png(image, WINDOW))))
    assert decoded.tolist() == [[0, 128], [255, 255]]
