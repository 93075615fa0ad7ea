import argparse
import json

import pytest
import torch

import invkit


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """Weights of the plugin `stranger`, and a folder of the user's own."""
    monkeypatch.setenv("INVKIT_CACHE", str(tmp_path / "cache"))
    random = torch.Generator().manual_seed(0)
    shapes = {"0.weight": (4, 1, 3, 3), "0.bias": (4,), "2.weight": (1, 4, 1, 1), "2.bias": (1,)}
    state = {name: torch.randn(shape, generator=random) for name, shape in shapes.items()}
    path = tmp_path / "best.pt"
    torch.save({"args": argparse.Namespace(lr=1.0), "model_state_dict": state}, path)
    return path


def test_added_weights_are_listed_used_and_removed(invoke, stranger, checkpoint):
    words = ("models", "add", checkpoint, "--plugin", stranger, "--model", "stranger", "--tag", "best")
    result = invoke(*words, "--json", "--trained-on", "much", "--license", "MIT", "--normalise=-500,250")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["schema"], found["name"], found["added"]) == ("invkit.models.add/1", "stranger.best", True)
    assert found["source_sha256"] != found["sha256"]
    assert json.loads(invoke(*words, "--json", "--normalise=-500,250").stdout)["added"] is False
    listed = json.loads(invoke("models", "--plugin", stranger, "--json").stdout)
    assert listed["problems"] == []
    (weights,) = next(model for model in listed["models"] if model["name"] == "stranger")["weights"]
    assert (weights["tag"], weights["added"], weights["license"]) == ("best", True, "MIT")
    row = next(line for line in invoke("models", "list").stdout.splitlines() if line.startswith("stranger "))
    assert row.split()[1] == "best"
    loaded = invkit.load("stranger.best")
    assert loaded.preprocessing == invkit.Affine(-500.0, 250.0)
    assert loaded(torch.zeros(1, 1, 8, 8)).shape == (1, 1, 8, 8)
    assert invoke("layers", "stranger.best", "--plugin", stranger).exit_code == 0
    result = invoke("models", "remove", "stranger.best", "--json")
    assert json.loads(result.stdout)["name"] == "stranger.best"
    result = invoke("layers", "stranger.best", "--plugin", stranger)
    assert result.exit_code == 4
    assert "no weights of stranger 'best'" in result.stderr


def test_adding_says_where_and_which_bytes(invoke, stranger, checkpoint):
    result = invoke("models", "add", checkpoint, "--plugin", stranger, "--model", "stranger", "--tag", "best")
    assert "sha256 of the source" in result.stdout
    assert "invkit analyze --model stranger.best" in result.stderr
    result = invoke("models", "add", checkpoint, "--plugin", stranger, "--model", "stranger", "--tag", "best")
    assert "Already added" in result.stderr
    assert "removed" in invoke("models", "remove", "stranger.best").stdout


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["FILE", "--tag", "a"], 2, "does not say which denoiser it is for: add --model"),
        (["FILE", "--tag", "a", "--model", "stranger.b"], 2, "the tag goes in --tag"),
        (["FILE", "--tag", "a", "--model", "strnger"], 4, "did you mean 'stranger'?"),
        (["FILE", "--tag", "A", "--model", "stranger"], 2, "must match"),
        (["FILE", "--tag", "a", "--model", "stranger", "--sha256", "0" * 64], 3, "not the expected file"),
        (
            ["FILE", "--tag", "a", "--model", "stranger", "--normalise", "1"],
            2,
            "--normalise takes two numbers",
        ),
        (["FILE", "--tag", "a", "--model", "stranger", "--normalise", "1,0"], 4, "positive std"),
        (["https://example.org/a.pt", "--tag", "a", "--model", "stranger"], 2, "add --sha256"),
        (["lost.pt", "--tag", "a", "--model", "stranger"], 3, "cannot read lost.pt"),
        (["lost.pt", "--tag", "a"], 3, "cannot read the weights lost.pt: No such file or directory"),
        (["https://example.org/a.pt", "--tag", "a"], 2, "does not say which denoiser it is for: add --model"),
    ],
)
def test_what_goes_wrong_ends_with_a_code_and_a_message(words, code, message, invoke, stranger, checkpoint):
    given = [str(checkpoint) if word == "FILE" else word for word in words]
    result = invoke("models", "add", *given, "--plugin", stranger)
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr


def test_a_broken_record_is_reported_and_breaks_nothing(invoke, stranger, checkpoint, tmp_path):
    folder = tmp_path / "cache" / "models"
    folder.mkdir(parents=True)
    (folder / "stranger.bad.json").write_text("{}")
    result = invoke("models", "--plugin", stranger)
    assert result.exit_code == 0
    assert "stranger.bad.json cannot be used" in result.stderr
    assert invoke("models", "remove", "stranger.bad").exit_code == 4
