import hashlib
import io
import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from invkit.errors import ResourceError
from invkit.report.terminal.full import print_report
from invkit.report.write import report_json, write_report


def test_everything_is_there_and_nothing_else(written):
    folder, paths = written
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    figures = [
        f"figures/{name}.{kind}"
        for name in ("checks", "references", "samples", "spectrum")
        for kind in ("png", "svg")
    ]
    assert names == [*figures, "report.html", "report.json"]
    assert sorted(paths.figures) == [folder / name for name in figures]


def test_json_is_strict_and_complete(written):
    folder, paths = written

    def refuse(constant):
        raise AssertionError(constant)

    found = json.loads(paths.json.read_text(), parse_constant=refuse)
    assert found["schema"] == "invkit.report/1"
    assert found["metrics"]["fiber_error"]["samples"] == {"value": 0.13, "low": 0.12, "high": 0.14}
    assert found["metrics"]["nll"] == {"layer": -1.0, "input": -1.09, "const": 0.2, "floor": -1.1}
    assert found["metrics"]["spread_f_hu"] == 20.0
    assert (found["model"], found["layer"], found["domain"]) == ("yang2018", "3", "low")
    for name, sha256 in found["figures"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha256


def test_json_of_several_layers_names_each(layer, report):
    found = report_json(report(layer("1"), layer("3")))
    assert "metrics" not in found
    assert [entry["key"] for entry in found["layers"]] == ["1", "3"]


def test_figures_are_images(written):
    for path in written[1].figures:
        if path.suffix == ".png":
            image = np.asarray(Image.open(path).convert("L"), dtype=float)
            assert min(image.shape) > 200
            assert image.std() > 5
        else:
            root = ET.fromstring(path.read_text(encoding="utf-8"))
            assert root.tag == "{http://www.w3.org/2000/svg}svg"
            assert len(list(root.iter())) > 50


def test_names_in_the_data_reach_no_path(layer, report, tmp_path):
    folder = tmp_path / "run"
    write_report(folder, report(layer("../../x", note="../y", full=False, metrics={}), model="../../etc"))
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


def test_a_folder_that_cannot_be_written_is_a_resource_error(layer, report, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError):
        write_report(tmp_path / "file" / "run", report(layer(full=False, metrics={})))


def printed(data, *, terminal=False, path=None, width=80):
    stream = io.StringIO()
    console = Console(
        file=stream, force_terminal=terminal, width=width, color_system="truecolor" if terminal else None
    )
    print_report(report_json(data), console, path)
    return stream.getvalue()


def test_terminal_shows_references_likelihood_warning_and_path(report, tmp_path):
    path = tmp_path / ("long" * 40) / "report.html"
    text = printed(report(), path=path)
    for part in (
        "Warning: The image lies",
        "spread of the model",
        "The samples",
        "NLL given z",
        "phantoms",
    ):
        assert part in text
    assert f"Report: {path}\n" in text
    assert "\x1b" not in text
    assert "\x1b[" in printed(report(), terminal=True)


def test_terminal_of_several_layers_has_one_row_each(layer, report):
    text = printed(report(layer("1"), layer("output")))
    assert "Spread, HU" in text
    assert "output" in text


def test_an_overview_of_layers_fits_on_a_terminal(layer, report):
    def interval(value, low, high):
        return {"value": value, "low": low, "high": high}

    metrics = {
        "noise": {"hidden_hu": interval(7.8123, 7.7123, 7.9234), "identity_hidden_hu": 2.747},
        "condition": {"value": 15.72, "at_least": False},
        "spread_hu": interval(11.89, 11.81, 11.98),
        "spread_input_hu": interval(11.85, 11.68, 12.03),
        "spread_f_hu": 11.4,
        "fiber_error": {"samples": interval(0.12557, 0.12548, 0.12566), "vae": 0.124},
        "nll": {"layer": interval(-0.8661, -0.8712, -0.8613)},
    }
    text = printed(report(layer("1", metrics=metrics), layer("8", metrics=metrics)))
    lines = [line.split() for line in text.splitlines()]
    for key in "18":
        assert [key, "7.81", "7.71-7.92", "2.75", "15.7", "11.89", "0.12557", "-0.866"] in lines


def test_an_overview_leaves_out_the_fiber_error_where_it_does_not_fit(layer, report):
    metrics = {
        "noise": {
            "hidden_hu": {"value": 34.0123, "low": 33.5123, "high": 34.4123},
            "identity_hidden_hu": 2.747,
        },
        "condition": {"value": 145.6, "at_least": True},
        "spread_hu": 11.8912,
        "fiber_error": {"samples": 0.12557, "vae": 0.12412},
        "nll": {"layer": -0.86612},
    }
    data = report(layer("1", metrics=metrics), layer("8", metrics=metrics))
    for width, fits in ((80, True), (64, False)):
        text = printed(data, width=width)
        assert ("0.126" in text) is fits and "-0.866" in text and "33.5-34.4" in text


@pytest.mark.parametrize(
    "text", ["[/oops]", "[red]x[/red]", "[link=http://x]y[/link]", "\x1b]0;title\x07\x1b[2J", ":smile:"]
)
def test_terminal_prints_hostile_texts_as_they_are(text, layer, report):
    data = report(
        layer(text, metrics={text: 1.0, "note": text}),
        model=text, image=text, verdict=(text,), warnings=(text,), provenance=(text,),
    )  # fmt: skip
    for terminal in (False, True):
        shown = printed(data, terminal=terminal)
        assert "\x1b]" not in shown
        assert "\x1b[2J" not in shown
        if "\x1b" not in text:
            assert shown.count(text) >= 5
