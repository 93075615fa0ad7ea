"""A model named by a file or an import, on the command line."""

import json
import warnings

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from invkit.cli.app import app


@pytest.fixture
def file(tmp_path):
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1)).eval()
    auto = torch.export.Dim.AUTO
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            network, (torch.rand(2, 1, 32, 32),), dynamic_shapes=({0: auto, 2: auto, 3: auto},)
        )
        torch.export.save(program, tmp_path / "net.pt2")
    return str(tmp_path / "net.pt2")


def run(*words):
    return CliRunner().invoke(app, words)


def test_layers_of_a_file(file):
    found = run("layers", file, "--normalise=-1024,4095", "--modules", "--json")
    assert found.exit_code == 0, found.output
    described = json.loads(found.stdout)
    assert described["model"] == "net"
    modules = {row["layer"]: row for row in described["modules"]}
    assert {"0", "2"} <= {name.removeprefix("module:") for name in modules}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["layers", "net.pt2", "--normalise", "0,1"], "there is no file or folder net.pt2"),
        (["layers", "yang2018", "--normalise", "0,1"], "a plugin states its own"),
        (["layers", "no_such:net"], "cannot be imported"),
    ],
)
def test_what_cannot_be_opened_is_said(words, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = run(*words)
    assert text in " ".join(found.output.split())


def test_units_are_asked_for(file):
    found = run("layers", file)
    assert "does not say which units its network takes" in " ".join(found.output.split())
