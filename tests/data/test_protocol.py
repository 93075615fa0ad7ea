"""The protocol on real DICOM files from the first command to the last: scan, prepare, train, evaluate, analyze."""

import json

import pytest
from ct_layouts import write_tcia
from typer.testing import CliRunner

from invkit.artifacts import read_sidecar
from invkit.cli.app import app
from invkit.parts.config import LayerConfig
from invkit.parts.preset_file import toml_text
from invkit.plugins.manager import default_host

TINY = LayerConfig.preset("tiny")
REGRESSOR = {"patch": 32, "batch": 4, "steps": 4, "calibration": 2, "held_out": 2}
PRESET = TINY.model_copy(
    update={
        "rows": 64,
        "held_out": 32,
        "regressed": 16,
        "regressor": TINY.regressor.model_copy(update=REGRESSOR),
        "cinn": TINY.cinn.model_copy(update={"steps": 12, "evaluate_every": 6}),
    }
)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command as a user would; return what it printed as JSON."""
    monkeypatch.setenv("INVKIT_CACHE", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def invoke(*words):
        default_host.cache_clear()
        done = CliRunner().invoke(app, [str(word) for word in (*words, "--json")], prog_name="invkit")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    yield invoke
    default_host.cache_clear()


def test_the_whole_protocol_runs_by_commands_alone(run, tmp_path):
    patients = [f"L{number:03}" for number in range(1, 7)]
    write_tcia(tmp_path / "tcia", patients, 2, 64, PatientName="Canary^Jane")

    report = run("data", "scan", tmp_path / "tcia")
    assert (report["patients"], report["series"], report["slices"]) == (6, 12, 24)
    assert report["gaps"] == []

    prepared = run("data", "prepare", tmp_path / "tcia", "--out", "cache")
    assert (tmp_path / "cache" / "split.json").is_file()
    split = json.loads((tmp_path / "cache" / "split.json").read_text())
    assert prepared["split"] == split["sha256"]

    data = ("--train-data", "cache")
    run("train", "denoiser", "chen2017", *data, "--preset", "tiny", "--out", "chen.safetensors")
    run("models", "add", "chen.safetensors", "--model", "chen2017", "--tag", "mine")
    quality = run("evaluate", "chen2017.mine", "--data", "cache", "--part", "test")
    assert quality["split"] == split["sha256"]

    low = next(path for path in sorted(tmp_path.rglob("*.dcm")) if "Low" in str(path))
    (tmp_path / "layer.toml").write_text(toml_text(PRESET.model_dump(mode="json")))
    options = (
        "--preset",
        "layer.toml",
        "--vae-preset",
        "tiny",
        "--samples",
        "3",
        "--refine",
        "2",
        "--out",
        "run",
    )
    found = run("analyze", "--model", "chen2017.mine", "--layer", "3", "-i", low, *data, *options)
    assert found["metrics"]["certified"]["refined"] == 2
    assert (tmp_path / "run" / "report.html").is_file()

    trained = [tmp_path / "chen.safetensors", *(tmp_path / "home").glob("vae/*.safetensors")]
    trained += (tmp_path / "home").glob("cinn/*.safetensors")
    assert len(trained) == 1 + 1 + 3
    assert {read_sidecar(path)["meta"]["split"] for path in trained} == {split["sha256"]}
    everything = " ".join(
        path.read_text(errors="replace")
        for path in (tmp_path / "run").rglob("*")
        if path.suffix in (".json", ".html")
    )
    assert "Canary" not in everything
