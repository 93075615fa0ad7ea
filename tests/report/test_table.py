"""Figures of plugins' metrics are shown as core ones are: with label, unit and meaning, for one layer and for several."""

import csv
import io

from report_data import make_layer, make_report
from rich.console import Console

from invkit.analysis.presentation import plugin_figures
from invkit.measures.table import Figure
from invkit.plugins.manager import PluginHost
from invkit.report.table import overview, rows, unknown_figures, write_csv
from invkit.report.terminal.full import print_report

OTHERS = (Figure("brightness", "brightness", "HU", "mean of all pixels"),)


def layers():
    return [
        make_layer(key, metrics={"spread_hu": 1.0, "brightness": value})
        for key, value in (("1", 1.25), ("2", 77.0))
    ]


def test_several_layers_have_one_column_each():
    headings, table = unknown_figures([(layer.key, layer.metrics) for layer in layers()], OTHERS)
    assert headings == ["Figure of a plugin", "Layer 1", "Layer 2"]
    assert table == [["brightness", "1.25 HU", "77 HU"]]
    assert unknown_figures([("1", {"spread_hu": 1.0})], OTHERS)[1] == []


def test_they_are_printed_for_several_layers():
    described = {
        "model": "yang2018",
        "image": "a slice",
        "warnings": [],
        "verdict": [],
        "said_of_samples": [],
        "samples_title": "",
        "provenance": [],
        "layers": [{"key": layer.key, "metrics": layer.metrics} for layer in layers()],
    }
    stream = io.StringIO()
    print_report(described, Console(file=stream, width=80), others=OTHERS)
    text = stream.getvalue()
    assert "brightness" in text and "1.25 HU" in text and "77 HU" in text


def test_the_csv_says_what_they_mean():
    lines = list(csv.DictReader(io.StringIO(write_csv(make_report(*layers()).layers, OTHERS))))
    (row, _) = (row for row in lines if row["key"] == "brightness")
    assert (row["unit"], row["value"], row["meaning"]) == ("HU", "1.25", "mean of all pixels")


def test_no_plugin_has_no_figures():
    assert plugin_figures(PluginHost(installed=False)) == ()


def test_a_lower_bound_is_said_to_be_one():
    sure, bound = ({"condition": {"value": 145.6, "at_least": at_least}} for at_least in (False, True))
    assert [row.value for row in rows(sure)] == ["146", "False"]
    assert [row.value for row in rows(bound)] == ["at least 146", "True"]
    assert overview([("1", sure), ("8", bound)])[1] == [["1", "146"], ["8", "at least 146"]]
