"""One table says of every figure what it is; a plugin's metric is shown like the others."""

import csv

import pytest
from report_data import METRICS, make_layer

from invkit.measures.table import LAYERS, SLICES, TERMINAL, TILES, Figure, known, shown_at
from invkit.report.table import rows, write_csv


def test_every_figure_has_a_label_and_places_that_exist():
    assert len(known()) > 90
    for figure in known().values():
        assert figure.label
        assert set(figure.places) <= {TERMINAL, TILES, LAYERS, SLICES}
        assert figure.heading or not {LAYERS, SLICES} & set(figure.places)


@pytest.mark.parametrize("place", [TERMINAL, TILES, LAYERS, SLICES])
def test_each_place_shows_something(place):
    assert "noise.hidden_hu" in shown_at(place)


def test_a_plugins_metric_has_its_unit_and_description_alone_or_as_a_group():
    others = [Figure("haze", "haze", "HU", "what is left"), Figure("pair", "pair", "mm", "two of them")]
    found = {row.key: row for row in rows({"haze": 2.0, "pair": {"near": 1.0, "far": 3.0}}, others)}
    assert found["haze"].value == "2 HU"
    assert found["haze"].meaning == "what is left"
    assert found["pair.far"].label == "pair: far"
    assert found["pair.far"].value == "3 mm"


def test_the_csv_has_a_row_for_each_layer_and_figure():
    layers = [make_layer("1"), make_layer("3")]
    table = list(csv.DictReader(write_csv(layers).splitlines()))
    assert {row["layer"] for row in table} == {"1", "3"}
    (row,) = (row for row in table if row["layer"] == "3" and row["key"] == "spread_hu")
    assert row["unit"] == "HU"
    assert [float(row[name]) for name in ("value", "low", "high")] == [
        METRICS["spread_hu"].value,
        METRICS["spread_hu"].low,
        METRICS["spread_hu"].high,
    ]
