import json

import pytest

from invkit.errors import UsageError
from invkit.plugins.reports import PluginReport


def test_models_lists_what_a_file_brings(invoke, stranger):
    result = invoke("models", "--plugin", stranger)
    assert result.exit_code == 0, result.output
    row = next(line for line in result.stdout.splitlines() if line.startswith("stranger "))
    assert "[red]A & B[/oops] \\x1b[31m" in row
    assert "printed" not in result.stdout


def test_models_as_json(invoke, stranger):
    result = invoke("models", "--json", "--plugin", stranger)
    found = json.loads(result.stdout)
    assert found["schema"] == "invkit.models/1"
    model = next(model for model in found["models"] if model["name"] == "stranger")
    assert model["layers"] == ["1"]
    assert model["weights"] == []
    assert model["plugin"] == "stranger.py"
    assert model["trainable"] is False


def test_layers_takes_the_only_model_of_a_plugin(invoke, stranger):
    result = invoke("layers", "--plugin", stranger, "--json", "--modules")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["model"] == "stranger"
    (layer,) = found["layers"]
    assert layer == {
        "layer": "1", "module": "0", "note": "conv 3x3x4, before ReLU",
        "kind": "cut", "shape": [4, 64, 64], "runs": 1, "set": None,
    }  # fmt: skip
    assert (found["size"], found["unfollowed"]) == (64, "")
    assert {row["layer"] for row in found["controls"]} == {"input", "output", "const"}
    assert [row["note"] for row in found["modules"]] == ["Conv2d", "ReLU", "Conv2d"]
    assert "printed while it is built" in result.stderr


def test_layers_as_a_table(invoke, stranger):
    result = invoke("layers", "stranger", "--plugin", stranger)
    assert result.stdout.splitlines()[1].split() == [
        *("1", "0", "cut", "4", "x", "64", "x", "64", "-", "conv", "3x3x4,", "before", "ReLU")
    ]
    assert "--modules" in result.stderr
    assert "64 x 64 pixels" in result.stderr


def test_layers_offers_sets_ready_to_paste(invoke, tmp_path):
    path = tmp_path / "net.py"
    path.write_text(
        "from torch import cat, nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.a, self.b, self.c = nn.Conv2d(1, 2, 1), nn.Conv2d(1, 2, 1), nn.Conv2d(4, 1, 1)\n"
        "    def forward(self, x):\n"
        "        return self.c(cat([self.a(x), self.b(x)], 1))\n"
    )
    result = invoke("layers", "--plugin", f"{path}:Net", "--modules", "--json")
    assert result.exit_code == 0, result.output
    rows = {row["layer"]: row for row in json.loads(result.stdout)["modules"]}
    assert [rows[name]["kind"] for name in ("a", "b", "cat#1", "c")] == ["branch", "branch", "cut", "cut"]
    assert rows["b"]["set"] == "a+b"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["layers"], 2, "no --plugin was given"),
        (["layers", "--plugin", "FILE:several"], 2, "name a model, one of one, two; --plugin provides 2"),
        (["layers", "strnger", "--plugin", "FILE"], 4, "did you mean 'stranger'?"),
        (["layers", "stranger.tag", "--plugin", "FILE"], 4, "no weights of stranger 'tag'"),
        (["models", "--plugin", "missing.py"], 4, "there is no Python file 'missing.py'"),
        (["models", "--plugin", "FILE:lost"], 4, "has no 'lost'"),
        (["plugins", "check", "lost"], 4, "there is no plugin 'lost'"),
        (["plugins", "new", "../up"], 2, "must match"),
    ],
)
def test_what_goes_wrong_ends_with_a_code_and_a_message(words, code, message, invoke, stranger):
    with stranger.open("a") as stream:
        stream.write(
            "several = [invkit.Denoiser(n, build, invkit.Affine(0.0, 1.0)) for n in ('one', 'two')]\n"
        )
    result = invoke(*(word.replace("FILE", str(stranger)) for word in words))
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr


def test_plugins_lists_the_built_ins(invoke):
    for words in (["plugins", "--json"], ["plugins", "list", "--json"]):
        found = json.loads(invoke(*words).stdout)
        assert found["schema"] == "invkit.plugins/1"
        assert found["plugins"][0]["name"] == "builtins"
        assert found["plugins"][0]["status"] == "ok"
        assert found["plugins"][0]["provides"]["sources"] == ["phantoms"]


def test_plugins_says_why_one_is_broken(invoke, monkeypatch):
    broken = PluginReport("mine", "invkit-mine", "1.0", "broken", "importing it failed: [/oops] \x1b[31m")
    monkeypatch.setattr("invkit.plugins.manager.PluginHost.reports", lambda self: [broken])
    result = invoke("plugins")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1].split() == ["mine", "invkit-mine", "1.0", "broken", "-"]
    assert "mine: importing it failed: [/oops] \\x1b[31m" in result.stderr
    checked = invoke("plugins", "check", "invkit-mine")
    assert checked.exit_code == 4
    assert "importing it failed" in checked.stdout
    assert "1 of 1 checks failed" in checked.stderr


def test_plugins_check_tests_a_file(invoke, stranger):
    result = invoke("plugins", "check", stranger, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["passed"] is True
    assert {"loads", "builds", "contract on two sizes", "layer 1 can be split"} <= {
        c["name"] for c in found["checks"]
    }
    assert "layer 1 can be split" in invoke("plugins", "check", stranger).stdout


def test_plugins_check_ends_with_4_where_the_contract_is_broken(invoke, stranger):
    stranger.write_text(stranger.read_text().replace("nn.Conv2d(4, 1, 1))", "nn.Conv2d(4, 2, 1))"))
    result = invoke("plugins", "check", stranger)
    assert result.exit_code == 4
    assert "FAILED" in result.stdout
    assert result.stdout.count("contract on two sizes") == 1
    assert "got shape (2, 2, 32, 32)" in result.stdout
    assert result.stderr.splitlines()[-1].endswith("checks failed")
    assert max(map(len, result.output.splitlines())) < 700


def test_plugins_new_writes_one_that_passes_its_check(invoke, tmp_path):
    folder = tmp_path / "made"
    result = invoke("plugins", "new", "fresh", folder)
    assert result.stdout.splitlines() == [
        str(folder / "pyproject.toml"),
        str(folder / "invkit_fresh" / "__init__.py"),
    ]
    assert invoke("plugins", "check", folder / "invkit_fresh").exit_code == 0
    again = invoke("plugins", "new", "fresh", folder)
    assert (again.exit_code, again.stdout) == (2, "")
    written = json.loads(invoke("plugins", "new", "other", tmp_path / "other", "--json").stdout)
    assert written["files"] == [
        str(tmp_path / "other" / name) for name in ("pyproject.toml", "invkit_other/__init__.py")
    ]


@pytest.mark.parametrize(
    ("out", "code", "message"),
    [("full", 2, "contains files, but no analysis"), ("file/run", 6, "cannot write to")],
)
def test_a_place_that_cannot_hold_the_run_is_found_before_anything_is_computed(
    out, code, message, invoke, stranger, tmp_path, monkeypatch
):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/kept").write_text("mine")
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("invkit.analysis.folder.Analysis", lambda *args: pytest.fail("computed"))
    result = invoke("analyze", "--plugin", stranger, "--layer", "1", "--out", tmp_path / out)
    assert result.exit_code == code, result.output
    assert message in result.stderr


@pytest.mark.parametrize(
    ("words", "layers"),
    [
        (["--layer", "1,output"], ["1", "output"]),
        (["--layer", "1 , module:2", "--layer", "output"], ["1", "module:2", "output"]),
        (["--layer", "1+module:1,output"], ["1+module:1", "output"]),
    ],
)
def test_a_comma_separates_layers_and_a_plus_joins_a_set(words, layers, invoke, stranger, monkeypatch):
    asked = []

    def analyze_into(name, layers, *args, **options):
        asked.extend(layers)
        raise UsageError("asked")

    monkeypatch.setattr("invkit.analysis.folder.analyze_into", analyze_into)
    assert invoke("analyze", "--plugin", stranger, *words).exit_code == 2
    assert asked == layers


def test_a_folder_of_plugins_stands_before_any_command(invoke, stranger, monkeypatch):
    seen = []
    monkeypatch.setattr("invkit.cli.app.together", lambda command, run: seen.append(command) or run())
    result = invoke("--plugins-dir", stranger.parent, "models")
    assert result.exit_code == 0, result.output
    assert any(line.startswith("stranger ") for line in result.stdout.splitlines())
    assert seen == ["models"]
    assert invoke("--plugins-dir", stranger.parent / "nowhere", "models").exit_code == 4


def test_plugins_new_takes_a_network(invoke, tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\ndef make():\n    return nn.Conv2d(1, 1, 3, padding=1)\n"
    )
    result = invoke(
        "plugins", "new", "own", tmp_path / "made", "--from", f"{tmp_path / 'net.py'}:make", "--json"
    )
    assert result.exit_code == 0, result.output
    files = [str(tmp_path / "made" / "invkit_own" / name) for name in ("__init__.py", "net.py")]
    assert json.loads(result.stdout)["files"] == [str(tmp_path / "made" / "pyproject.toml"), *files]
    alone = invoke("plugins", "new", "other", tmp_path / "other", "--weights", tmp_path / "x.pth")
    assert alone.exit_code == 2
    assert "name it with --from FILE.py:NAME" in alone.stderr
