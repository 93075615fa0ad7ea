import json

import numpy as np
import pytest

from invkit.data.dose.physics import ELECTRONIC
from invkit.workflow.simulate import DoseSettings


@pytest.fixture
def run(invoke, tmp_path):
    """Run `data simulate` on two slices of air."""
    np.save(tmp_path / "ct.npy", np.full((2, 24, 24), -1000))
    words = ["data", "simulate", tmp_path / "ct.npy", "--out", tmp_path / "out", "--dose", "0.25"]
    return lambda *more: invoke(*words, "--workers", "1", *more)


def test_a_summary_as_json(run, tmp_path):
    words = ("--spacing", "2,1.5", "--photons", "1e5", "--seed", "3", "--bowtie", "--kernel", "sharp")
    result = run(*words, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found.pop("seconds") > 0
    settings = {
        "dose": 0.25,
        "seed": 3,
        "photons": 1e5,
        "electronic": ELECTRONIC,
        "kernel": "sharp",
        "bowtie": True,
        "modulation": False,
    }
    assert found == {
        "schema": "invkit.simulate/1",
        "folder": str((tmp_path / "out").resolve()),
        "slices": 2,
        "made": 2,
        "photons": 1e5,
        "settings": settings,
    }
    assert "simulating" in result.stderr
    assert json.loads(run(*words, "--json").stdout)["made"] == 0


def test_a_summary_as_text(run):
    result = run("--spacing", "2", "--photons", "1e5")
    assert result.stdout.strip().endswith("2 slices at dose 0.25, 2 of them new")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 3, "Give --spacing"),
        (["--spacing", "2,3,4"], 2, "--spacing takes a distance"),
        (["--spacing", "wide"], 2, "--spacing takes a distance"),
        (["--spacing", "0"], 2, "row and column spacing"),
        (["--spacing", "2", "--kernel", "k"], 2, "kernels are standard, sharp, ramp"),
        (["--spacing", "2"], 3, "--photons"),
    ],
)
def test_what_goes_wrong_ends_with_a_code_and_a_message(words, code, message, run):
    result = run(*words)
    assert result.exit_code == code, result.output
    assert message in result.stderr


def test_the_help_states_the_defaults(run):
    text = " ".join(run("--help").output.split())
    assert f"Default: {ELECTRONIC}" in text
    assert DoseSettings(0.5).kernel in text
