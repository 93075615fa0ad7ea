import json
import tomllib

import pytest

from invkit.artifacts import read_sidecar


def test_presets_are_listed(invoke):
    lines = invoke("presets").stdout.splitlines()
    assert {line.split()[0] for line in lines[1:]} >= {"chen2017", "vae", "cinn"}
    assert invoke("presets", "vae").stdout.splitlines()[1].split() == [
        "vae",
        *["default,", "paper,", "ldct-benchmark,", "tiny"],
    ]
    found = json.loads(invoke("presets", "cinn", "--json").stdout)
    assert found["schema"] == "invkit.presets/1"
    assert found["presets"]["cinn"][:3] == ["default", "paper", "ldct-benchmark"]


def test_one_is_printed_as_a_file_and_as_json(invoke):
    text = invoke("presets", "chen2017", "ldct-benchmark").stdout
    assert tomllib.loads(text)["patch"] == 92
    assert "# patchsize" in text
    found = json.loads(invoke("presets", "chen2017", "ldct-benchmark", "--json").stdout)
    assert (found["schema"], found["for"], found["preset"]) == (
        "invkit.preset/1",
        "chen2017",
        "ldct-benchmark",
    )
    assert found["fields"]["patch"] == 92


def test_a_changed_copy_trains(invoke, tmp_path):
    copy, out = tmp_path / "my.toml", tmp_path / "net.safetensors"
    assert invoke("presets", "chen2017", "tiny", "--out", copy).stdout.strip() == str(copy)
    assert (
        "existing files are never overwritten" in invoke("presets", "chen2017", "tiny", "--out", copy).stderr
    )
    copy.write_text(copy.read_text().replace("steps = 20", "steps = 2"))
    words = ("--train-data", "phantoms:4", "--preset", copy, "--out", out)
    result = invoke("train", "denoiser", "chen2017", *words)
    assert result.exit_code == 0, result.output
    meta = read_sidecar(out)["meta"]
    assert (meta["steps"], meta["recipe"]["steps"], meta["recipe"]["batch"]) == (2, 2, 8)
    assert meta["preset"] == "my.toml"
    assert str(tmp_path) not in json.dumps(meta)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["presets", "lost"], "there are no presets for 'lost'"),
        (["presets", "vae", "lost"], "no preset 'lost' for a VAE"),
        (["presets", "chen2017", "lost"], "no preset 'lost' for this denoiser"),
        (["train", "vae", "--preset", "lost"], "no preset 'lost' for a VAE"),
        (["train", "vae", "--preset", "lost.toml"], "cannot read lost.toml"),
        (["train", "denoiser", "chen2017", "--preset", "lost.toml"], "cannot read lost.toml"),
        (["train", "cinn", "chen2017", "--preset", "lost.toml"], "cannot read lost.toml"),
    ],
)
def test_what_goes_wrong_ends_with_a_code_and_a_message(words, message, invoke):
    result = invoke(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
