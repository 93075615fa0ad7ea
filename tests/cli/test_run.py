import json

import pytest

from invkit.artifacts import sha256_file
from invkit.errors import UsageError


@pytest.mark.parametrize(
    ("domains", "noise", "refined", "items"),
    [
        (["low"], "image", 1, 12),
        pytest.param(["low", "high"], "physical", 2, 21, marks=pytest.mark.slow),
    ],
    ids=["low", "both"],
)
def test_the_tiny_preset_runs_from_end_to_end_and_then_trains_nothing(
    domains, noise, refined, items, invoke, tmp_path
):
    folder = tmp_path / "tiny"
    changes = (f"domains={json.dumps(domains)}", f'noise="{noise}"', f"refine={refined}")
    tiny = ("run", "tiny", *(word for change in changes for word in ("--set", change)), "--out", folder)
    first = invoke(*tiny, "--json")
    assert first.exit_code == 0, first.output
    found = json.loads(first.stdout)
    assert found["schema"] == "invkit.run/1"
    assert found["run"] == str(folder)
    assert len(found["done"]) == items
    assert {(row["model"], row["domain"], row["key"]) for row in found["layers"]} == {
        (model, domain, "3") for model in ("chen2017", "yang2018") for domain in domains
    }
    for row in found["layers"]:
        assert {"samples", "vae", "input", "random"} <= row["metrics"]["fiber_error"].keys()
    before = (folder / "manifest.json").read_bytes()
    manifest = json.loads(before)
    files = [item for one in manifest["items"].values() for item in one["files"].items()]
    assert all(sha256_file(folder / name) == sha256 for name, sha256 in files)

    second = invoke(*tiny)
    assert second.exit_code == 0, second.output
    assert f"{items} of {items} items were done before" in second.stderr
    assert "flow" not in second.stderr
    table = second.stdout.splitlines()
    assert table[0].split()[:3] == ["denoiser", "domain", "layer"]
    rows = [[model, domain, "3"] for domain in domains for model in ("chen2017", "yang2018")]
    assert [line.split()[:3] for line in table[1 : 1 + len(rows)]] == rows
    assert table[1 + len(rows)] == found["reports"]["low"]["chen2017"]
    assert (folder / "manifest.json").read_bytes() == before

    third = invoke(*tiny, "--set", "vae.steps=11")
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
