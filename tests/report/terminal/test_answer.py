"""What the terminal says first: it fits on a screen, and holds the figures that the sentence rests on."""

import io

import pytest
from rich.console import Console

from invkit.report.terminal.answer import print_answer


def disc(radius, hidden, image, contrast=10.0, tissue="soft tissue", spacing=0.66):
    return {
        "kind": "disc",
        "radius_px": radius,
        "radius_mm": None if spacing is None else radius * spacing,
        "contrast_hu": contrast,
        "tissue": tissue,
        "contrast_kept": {"value": 0.676, "low": 0.5, "high": 0.8},
        "hidden_hu": {"value": hidden, "low": hidden - 1, "high": hidden + 1},
        "identity_hidden_hu": {"value": image, "low": image - 1, "high": image + 1},
    }


def layer(key="3", conclusion=None, **changes):
    metrics = {
        "structures": [disc(8.0, 3.38, 3.83), disc(1.0, 43.11, 44.67), disc(1.0, 40.0, 41.0, contrast=100.0)],
        "noise": {
            "in_hu": {"value": 53.6, "low": 52.7, "high": 54.4},
            "out_hu": {"value": 39.03, "low": 38.25, "high": 39.79},
            "hidden_hu": {"value": 0.7604, "low": 0.7567, "high": 0.7641},
            "identity_hidden_hu": {"value": 2.536, "low": 2.5, "high": 2.6},
        },
        "tolerance": {"mark": "grey_level", "value": 0.0495},
        "output": {"detectability_kept": {"value": 0.992, "low": 0.982, "high": 1.003}},
        "certified": {"count": 15, "refined": 16},
        "frame_px": 8,
        "structures_window_px": None,
        "plausibility": {"inside": True},
        **changes,
    }
    found = {"interpretable": True, "anatomy_found": False, "noise_found": False, **(conclusion or {})}
    return {"key": key, "note": "conv 3x3x32", "metrics": metrics, "conclusion": found}


def printed(*layers, answer=("Layer 3 hides nothing.",), warnings=()):
    described = {
        "model": "yang2018",
        "image": "a slice",
        "layers": list(layers),
        "answer": list(answer),
        "warnings": list(warnings),
    }
    stream = io.StringIO()
    print_answer(described, Console(file=stream, width=80), "/some/run/report.html")
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_one_layer_fits_on_a_screen_with_sizes_in_mm_and_intervals():
    lines = printed(layer(), answer=["A sentence of some length. " * 9])
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "discs of diameter        1.3 mm   10.6 mm" in text
    assert "  hide below             43.1 HU  3.38 HU" in text
    assert "  from the image itself  44.7 HU  3.83 HU" in text
    assert "0.760 HU [0.757, 0.764] of 53.6 HU (image itself 2.54)" in text
    assert "15 of 16 drawn images certified; a frame of 8 px is left out" in text
    assert "Report: /some/run/report.html" in text


def test_warnings_come_before_the_answer():
    lines = printed(layer(), warnings=["x is odd"])
    assert lines.index("Warning: x is odd") < lines.index("Layer 3 hides nothing.")


def test_without_spacing_sizes_are_in_pixels_and_what_was_not_measured_is_not_said():
    lines = printed(
        layer(
            structures=[disc(1.0, 43.1, 44.7, spacing=None)],
            noise={"in_hu": 53.6, "out_hu": 39.0, "hidden_hu": None, "identity_hidden_hu": None},
            output=None,
            frame_px=None,
        )
    )
    text = "\n".join(lines)
    assert "discs of diameter        2 px" in text
    assert not any(word in text for word in ("noise that hides", "detectability", "frame"))


@pytest.mark.parametrize(
    ("conclusion", "said"),
    [
        ({}, "nothing"),
        ({"anatomy_found": True}, "discs"),
        ({"anatomy_found": True, "noise_found": True}, "discs and noise"),
        ({"interpretable": False, "noise_found": True}, "not interpretable"),
    ],
)
def test_each_of_several_layers_has_a_row_with_its_verdict(conclusion, said):
    lines = printed(layer("1"), layer("output", conclusion))
    row = next(line for line in lines if line.startswith("output"))
    assert row.split() == ["output", "0.76", "(2.54)", "43.1", "(44.7)", "3.38", "(3.83)", *said.split()]
    assert len(lines) <= 24 and max(map(len, lines)) <= 80


def test_a_control_has_its_sentences_alone():
    control = {"key": "input", "note": "", "metrics": {"spread_hu": 11.8}, "conclusion": None}
    lines = printed(control, answer=["The control sees all of x."])
    assert "The control sees all of x." in lines and not any(line.startswith("Trust") for line in lines)
    assert any(line.startswith("input") and "a control" in line for line in printed(layer(), control))
