import json

import pytest

from invkit.artifacts import sha256_file
from invkit.errors import UsageError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cli") / "tiny"


def test_the_tiny_preset_runs_from_end_to_end_and_then_trains_nothing(invoke, folder):
    first = invoke("run", "tiny", "--out", folder, "--json")
    assert first.exit_code == 0, first.output
    found = json.loads(first.stdout)
    assert found["schema"] == "invkit.run/1"
    assert found["run"] == str(folder)
    assert len(found["done"]) == 21
    assert {(row["model"], row["domain"], row["key"]) for row in found["layers"]} == {
        (model, domain, "3") for model in ("chen2017", "yang2018") for domain in ("low", "high")
    }
    for row in found["layers"]:
        assert {"samples", "vae", "input", "random"} <= row["metrics"]["fiber_error"].keys()
    before = (folder / "manifest.json").read_bytes()
    manifest = json.loads(before)
    files = [item for one in manifest["items"].values() for item in one["files"].items()]
    assert all(sha256_file(folder / name) == sha256 for name, sha256 in files)

    second = invoke("run", "tiny", "--out", folder)
    assert second.exit_code == 0, second.output
    assert "21 of 21 items were done before" in second.stderr
    assert "flow" not in second.stderr
    table = second.stdout.splitlines()
    assert table[0].split()[:3] == ["denoiser", "domain", "layer"]
    assert [line.split()[:3] for line in table[1:5]] == [
        [model, domain, "3"] for domain in ("low", "high") for model in ("chen2017", "yang2018")
    ]
    assert table[5] == found["reports"]["low"]["chen2017"]
    assert (folder / "manifest.json").read_bytes() == before

    third = invoke("run", "tiny", "--out", folder, "--set", "vae.steps=11")
    assert third.exit_code == 2
    assert "vae.steps was 10, now it is 11" in third.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["lost.toml"], 2, "cannot read lost.toml"),
        (["paper"], 2, "paper: data is missing"),
        (
            ["tiny", "--set", "vae.stepz=1"],
            2,
            "tiny with --set: vae.stepz is unknown; allowed are preset, patch",
        ),
        (["tiny", "--set", "denoisers={lost={layers=['1']}}"], 4, "there is no denoiser 'lost'"),
        (["tiny", "--set", "denoisers={stranger={layers=['1']}}"], 2, "stranger cannot be trained"),
    ],
)
def test_what_goes_wrong_ends_with_a_code_and_a_message(words, code, message, invoke, stranger, tmp_path):
    result = invoke("run", *words, "--plugin", stranger, "--out", tmp_path / "out")
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert not list(tmp_path.glob("out/*.json"))


def test_without_out_a_run_has_a_folder_of_the_files_name(invoke, stranger, tmp_path, monkeypatch):
    def seen(config, folder, **options):
        raise UsageError(f"it would go to {folder}")

    monkeypatch.setattr("invkit.workflow.run.run", seen)
    (tmp_path / "mine.toml").write_text('data = ["nowhere"]\n[denoisers.stranger]\nlayers = ["1"]\n')
    result = invoke("run", tmp_path / "mine.toml", "--plugin", stranger)
    assert result.exit_code == 2
    assert "it would go to runs/mine\n" in result.stderr
