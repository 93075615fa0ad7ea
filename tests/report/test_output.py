"""The figure and the table of the output show what is in the figures, per pixel or per mm."""

import pytest

from invkit.report.html import render_html
from invkit.report.output import output_figure, output_tables
from invkit.report.theme import LIGHT


def metrics(spacing=0.5):
    def between(value):
        return {"value": value, "low": value - 0.1, "high": value + 0.1}

    def transfer(contrast, out):
        return {"contrast_hu": contrast, "in": [1.0, 0.8, 0.4], "out": out, "f50_per_px": between(0.2)}

    return {
        "output": {
            "tissue": "lung",
            "places": 16,
            "scans": 24,
            "spacing_mm": spacing,
            "detectability_kept": between(0.9),
            "observer": [
                {
                    "radius_px": radius,
                    "radius_mm": None if spacing is None else radius * spacing,
                    "contrast_hu": 40 / radius,
                    "in_detectability": between(2.0),
                    "out_detectability": between(1.8),
                    "detectability_kept": between(0.9),
                }
                for radius in (2.0, 8.0)
            ],
            "noise": {
                "in_hu": between(50.0),
                "out_hu": between(20.0),
                "in_power": [400.0, 800.0],
                "out_power": [200.0, 100.0],
                "frequencies_per_px": [0.125, 0.375],
            },
            "ttf_low": transfer(30.0, [1.0, 0.5, 0.1]),
            "ttf_high": transfer(300.0, [1.0, 0.7, 0.3]),
            "frequencies_per_px": [0.0, 0.25, 0.5],
        }
    }


def lines(axes):
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}


def test_the_figure_is_per_mm_where_the_pixel_is_known():
    noise, transfer, detected = output_figure("m", metrics(), LIGHT).axes
    assert lines(noise)["image: 50 HU"] == ([0.25, 0.75], [100.0, 200.0])
    assert lines(noise)["f: 20 HU"] == ([0.25, 0.75], [50.0, 25.0])
    assert lines(transfer)["f, 30 HU"] == ([0.0, 0.5, 1.0], [1.0, 0.5, 0.1])
    assert lines(transfer)["f, 300 HU"][1] == [1.0, 0.7, 0.3]
    assert noise.get_xlabel() == "Cycles per mm"
    points = [line for line in detected.lines if line.get_marker() == "o"]
    assert [list(line.get_ydata()) for line in points] == [[0.9], [0.9]]


def test_the_figure_is_per_pixel_where_it_is_not():
    noise, *_ = output_figure("m", metrics(None), LIGHT).axes
    assert lines(noise)["image: 50 HU"] == ([0.125, 0.375], [400.0, 800.0])
    assert noise.get_xlabel() == "Cycles per px"


def test_the_table_has_a_row_for_each_size():
    (table,) = output_tables(metrics())
    assert "in lung" in table.caption and "16 places" in table.caption
    assert [row[0] for row in table.rows] == ["2 (1 mm)", "8 (4 mm)"]
    assert table.rows[0][1:] == ("20", "2.00 [1.90, 2.10]", "1.80 [1.70, 1.90]", "0.90 [0.80, 1.00]")
    assert output_tables(metrics(None))[0].rows[1][0] == "8"


@pytest.mark.parametrize("missing", [{}, {"output": None}])
def test_without_figures_there_is_nothing(missing):
    assert output_figure("m", missing, LIGHT) is None
    assert output_tables(missing) == []


def test_the_report_shows_it_once_for_several_layers(layer, report):
    page = render_html(report(*(layer(key, metrics=metrics()) for key in "13")))
    assert page.count("Plots of noise power, task transfer and detectability at the output") == 1
    assert "Detectability kept at the output" in page
