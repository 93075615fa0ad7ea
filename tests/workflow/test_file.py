import json

import pytest

from invkit.denoisers.recipe import Adversarial, Recipe
from invkit.errors import ConfigError
from invkit.flow.config import CinnConfig
from invkit.parts.config import LayerConfig
from invkit.parts.preset_file import vae_preset
from invkit.vae.vae import VaeConfig
from invkit.workflow.config import RecipeConfig
from invkit.workflow.file import PRESETS, preset_names, read_config

SMALLEST = """
data = ["phantoms:20"]
[denoisers.some]
layers = ["1"]
"""


@pytest.fixture
def read(tmp_path):
    """Read a configuration from text."""
    path = tmp_path / "my.toml"

    def reader(text, *changes):
        path.write_text(text)
        return read_config(path, changes)

    return reader


def test_what_a_file_leaves_out_has_defaults(read):
    config = read(SMALLEST)
    assert config.samples == 250
    assert config.domains == ("low", "high")
    assert config.vae == VaeConfig()
    assert config.layer.cinn == CinnConfig()
    assert config.layer.dose == config.dose == 0.25


def test_shipped_files_are_valid_and_all_named():
    shipped = {item.name.removesuffix(".toml") for item in PRESETS.iterdir() if item.is_file()}
    assert shipped == set(preset_names())
    for name in ("tiny", "small"):
        read_config(name)


def test_small_has_the_sizes_that_are_bundled():
    small = read_config("small")
    assert small.vae == vae_preset("default")
    assert small.cinn == CinnConfig()
    assert [chosen.recipe.preset for chosen in small.denoisers.values()] == ["default", "default"]


def test_paper_has_the_published_sizes_and_wants_data():
    with pytest.raises(ConfigError, match=r"paper: data is missing.*--set 'data="):
        read_config("paper")
    paper = read_config("paper", ["data=/some/ct"])
    assert paper.data == ("/some/ct",)
    assert paper.samples == 250
    assert paper.vae == vae_preset("paper")
    assert paper.cinn == LayerConfig.preset("eulig").cinn
    assert paper.denoisers["chen2017"].layers == ("1", "3", "5")
    assert paper.denoisers["yang2018"].layers == tuple("12345678")


def test_the_resolved_configuration_can_be_read_again(tmp_path):
    paper = read_config("paper", ["data=phantoms"])
    path = tmp_path / "config.json"
    path.write_text(json.dumps(paper.model_dump(mode="json")))
    assert read_config(path) == paper


def test_changes_are_toml_values_or_bare_words(read):
    config = read(
        SMALLEST,
        "vae.preset=tiny",
        "vae.steps = 7",
        'denoisers.some.layers=["1", "module:body.0"]',
        "cinn.d=16",
        "denoisers.some.recipe.preset=quick",
        "dose=0.1",
        "denoisers.other={layers=['2']}",
    )
    assert config.vae == vae_preset("tiny", steps=7)
    assert config.denoisers["some"].layers == ("1", "module:body.0")
    assert config.denoisers["some"].recipe.preset == "quick"
    assert config.denoisers["other"].layers == ("2",)
    assert config.dose == 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("vae.stepz=1", r"vae\.stepz is unknown; allowed are preset, patch, d, "),
        ("stepz=1", r"stepz is unknown; allowed are data, denoisers, seed, "),
        ("denoisers.some.layer='3'", r"denoisers\.some\.layer is unknown; allowed are layers, recipe, "),
        ("denoisers.some.recipe.perceptual.x=1", r"perceptual\.x is unknown; allowed are weight, backbone"),
        (
            "denoisers.some.recipe.without=['mse']",
            r"recipe\.without\.0 is 'mse': .*'adversarial' or 'perceptual'",
        ),
        ("denoisers.some.recipe.steps=0", r"denoisers\.some\.recipe\.steps is 0: .*greater than 0"),
        ("denoisers.some.layers=[]", r"layers is \[\]: .*at least 1 item"),
        ("denoisers.some.layers=['1', '1']", r"denoisers\.some: layer '1' must not be listed twice"),
        ("denoisers.some.layers=['input']", r"layer 'input' must not be listed because it is a control"),
        ("denoisers={}", r"denoisers is \{\}: .*at least 1 item"),
        ("vae.preset='huge'", r"vae\.preset is 'huge'; allowed are default, .*paper"),
        ("cinn.preset=3", r"cinn\.preset is 3; allowed are default, paper, ldct-benchmark, eulig"),
        ("cinn.d=32", r"cinn\.d must be vae\.d, the length of a code: 256, got 32"),
        ("vae.patch=100", r"vae: patch must be a multiple of"),
        ("samples=1", r"samples is 1: .*greater than or equal to 2"),
        ("samples=true", r"samples is True: .*valid integer"),
        ("samples='many'", r"samples is 'many': .*valid integer"),
        ("dose=nan", r"dose is nan; only finite numbers"),
        ("dose=2020-01-01", r"dose is a date or time"),
        ("dose=1.0", r"dose is 1\.0: .*less than 1"),
        ("domains=['low','low']", r"domains names 'low' twice"),
        ("domains=['mid']", r"domains\.0 is 'mid': .*'low' or 'high'"),
        ("images.size=8", r"images\.size is 8: .*greater than or equal to 16"),
        ("data=''", r"data\.0 is '': .*at least 1 character"),
        ("data.x=1", r"--set data\.x=1: data has no fields"),
        ("samples", "--set needs FIELD=VALUE, as in vae.steps=100; got 'samples'"),
        (".=1", "--set needs FIELD=VALUE"),
    ],
)
def test_a_wrong_field_is_named_with_what_is_allowed(change, message, read):
    with pytest.raises(ConfigError, match=message) as caught:
        read(SMALLEST, change)
    if not change.startswith((".", "samples")) and "--set d" not in str(caught.value):
        assert "my.toml with --set: " in str(caught.value)


def test_several_faults_are_told_at_once(read):
    with pytest.raises(ConfigError, match=r"a0\.layers is missing.*dose is 2.*and 1 more"):
        read(SMALLEST + "\n".join(f"[denoisers.a{n}]" for n in range(4)), "samples=1", "dose=2")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"data = [", "my.toml is not TOML"),
        (b"\xff\xfe", "my.toml is not TOML"),
        (b"a = " + b"[" * 100_000, "my.toml is not TOML"),
        (None, "cannot read .*my.toml: .*one of tiny, small, paper"),
    ],
)
def test_a_file_that_cannot_be_read(content, message, tmp_path):
    if content is not None:
        (tmp_path / "my.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_config(tmp_path / "my.toml")


def test_json_that_is_no_object(tmp_path):
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(ConfigError, match="must hold one object"):
        read_config(tmp_path / "a.json")


RECIPE = Recipe(
    patch=16,
    batch=4,
    steps=100,
    lr=1e-3,
    adversarial=Adversarial(critic=dict, lr=1e-4),
    presets={"quick": {"steps": 5}},
)


def test_recipes_are_changed_field_by_field():
    chosen = RecipeConfig.model_validate({"preset": "quick", "lr": 1e-2, "adversarial": {"weight": 0.5}})
    changed = chosen.applied(RECIPE, model="some")
    assert (changed.steps, changed.lr, changed.patch) == (5, 1e-2, 16)
    assert (changed.adversarial.weight, changed.adversarial.lr) == (0.5, 1e-4)
    assert RecipeConfig(without=("adversarial",)).applied(RECIPE, model="some").adversarial is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"preset": "slow"},
            "denoisers.some.recipe.preset: no training preset 'slow'; there are: default, quick",
        ),
        ({"perceptual": {"weight": 1.0}}, "denoisers.some.recipe.perceptual changes a term"),
        ({"adversarial": {}, "without": ["adversarial"]}, "denoisers.some.recipe.adversarial changes a term"),
    ],
)
def test_a_recipe_that_cannot_be_changed_so(changes, message):
    with pytest.raises(ConfigError, match=message):
        RecipeConfig.model_validate(changes).applied(RECIPE, model="some")
