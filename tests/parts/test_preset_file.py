"""Presets as files: complete, equal to what they give, and readable back after a change."""

import tomllib

import pytest

from invkit.denoisers.recipe import Adversarial, Perceptual, Recipe
from invkit.errors import ConfigError, UsageError
from invkit.parts.config import LayerConfig
from invkit.parts.preset_file import (
    PRESETS,
    preset_label,
    preset_values,
    recipe_preset,
    shipped_text,
    toml_text,
    vae_preset,
)
from invkit.parts.preset_list import preset_list, preset_toml, preset_used
from invkit.plugins.manager import PluginHost
from invkit.vae.vae import VaeConfig
from invkit.workflow import train
from invkit.workflow.file import read_config

KINDS = ("chen2017", "yang2018", "vae", "cinn")


def critic(patch=64):
    raise AssertionError("reading a preset builds nothing")


RECIPE = Recipe(
    patch=64,
    batch=8,
    steps=10,
    lr=1e-4,
    mse=0.0,
    adversarial=Adversarial(critic, critic_steps=4, lr=1e-5),
    perceptual=Perceptual(0.1, "vgg19"),
    presets={"quick": {"steps": 2, "perceptual": None, "adversarial": {"critic_steps": 1}}},
)


@pytest.fixture(scope="module")
def host():
    return PluginHost()


def plain(values):
    """As TOML has it: lists for tuples, its word for nothing."""
    if isinstance(values, dict):
        return {key: plain(value) for key, value in values.items()}
    return "none" if values is None else values


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in PRESETS for name in PRESETS[kind]])
def test_a_shipped_file_states_every_field_of_what_it_gives(kind, name, host):
    assert preset_values(kind, name) == plain(preset_used(host, kind, name))


@pytest.mark.parametrize("kind", KINDS)
def test_all_three_names_exist_for_every_kind(kind, host):
    names = ["default", "paper", "ldct-benchmark"]
    assert preset_list(host)[kind][:3] == names
    for name in names:
        text = preset_toml(host, kind, name)
        assert "#" in text
        assert tomllib.loads(text)


def test_a_file_serves_both_domains(monkeypatch, tmp_path):
    path = tmp_path / "my.toml"
    path.write_text(shipped_text("vae", "default").replace("steps = 7000", "steps = 77"))
    asked = []
    monkeypatch.setattr(train, "learn_vae", lambda request, *_, **__: asked.append(request))
    for domain in ("low", "high"):
        train.train_vae(domain, train_data="phantoms:3", preset=str(path))
    assert [(request.domain, request.config) for request in asked] == [
        (domain, VaeConfig(steps=77)) for domain in ("low", "high")
    ]


def test_defaults_are_what_the_bundled_parts_were_trained_with():
    """Else the key of a bundled part would change, and it would not be found any more."""
    assert vae_preset("default") == VaeConfig()
    assert LayerConfig.preset("default") == LayerConfig()


def test_the_benchmark_takes_the_published_flow_and_vae():
    assert LayerConfig.preset("ldct-benchmark").cinn == LayerConfig.preset("eulig").cinn
    changes = {"hu_mean": 481.4542 - 1024, "hu_scale": 502.1851}
    benchmark = vae_preset("ldct-benchmark")
    assert benchmark.model_dump(exclude=set(changes)) == vae_preset("paper").model_dump(exclude=set(changes))
    assert (benchmark.hu_mean, benchmark.hu_scale) == pytest.approx((changes["hu_mean"], changes["hu_scale"]))


def test_a_run_takes_the_benchmarks_preset_too():
    run = read_config("paper", ["data=phantoms", "vae.preset=ldct-benchmark", "cinn.preset=ldct-benchmark"])
    assert run.vae.batch == 64
    assert run.cinn == LayerConfig.preset("eulig").cinn
    config = ["data=phantoms", "denoisers={chen2017={layers=['1'], recipe={preset='ldct-benchmark'}}}"]
    assert read_config("paper", config).denoisers["chen2017"].recipe.preset == "ldct-benchmark"


def test_every_preset_that_is_printed_trains_the_same_when_it_is_given_as_a_file(host, tmp_path):
    path = tmp_path / "my.toml"
    for what, names in preset_list(host).items():
        for name in names:
            path.write_text(preset_toml(host, what, name))
            if what in ("vae", "cinn"):
                load = vae_preset if what == "vae" else LayerConfig.preset
                assert load(str(path)) == load(name), (what, name)
            else:
                recipe = host.denoiser(what)[0].recipe
                assert recipe_preset(recipe, str(path)).describe() == recipe.preset(name).describe(), (
                    what,
                    name,
                )
            assert preset_used(host, what, str(path)) == preset_used(host, what, name)


def test_a_users_file_changes_a_recipe(tmp_path):
    path = tmp_path / "my.toml"
    path.write_text("steps = 5\nbetas = [0.1, 0.2]\n[adversarial]\nlr = 3e-5\n")
    changed = recipe_preset(RECIPE, str(path))
    assert (changed.steps, changed.betas, changed.lr) == (5, (0.1, 0.2), 1e-4)
    assert changed.adversarial == Adversarial(critic, critic_steps=4, lr=3e-5)
    path.write_text('preset = "quick"\nbatch = 3\n')
    changed = recipe_preset(RECIPE, str(path))
    assert (changed.steps, changed.batch, changed.perceptual) == (2, 3, None)
    path.write_text('without = ["perceptual"]\n')
    assert recipe_preset(RECIPE, str(path)).perceptual is None
    assert recipe_preset(RECIPE, "default") is RECIPE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepz = 1", r"my\.toml: .*stepz"),
        ("steps = 0", "steps must be a whole number"),
        ("without = ['mse']", "without lists terms"),
        ("preset = 'slow'", r"no training preset 'slow'; there are: default, quick"),
        ("[adversarial]\ncritic = 'mine'", "critic must be a function"),
        ("[presets.a]\nsteps = 1", "a preset cannot contain presets"),
        ("steps = [", "is not TOML"),
    ],
)
def test_a_wrong_recipe_file_is_one_error_with_its_name(text, message, tmp_path):
    path = tmp_path / "my.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        recipe_preset(RECIPE, str(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepz = 1", "my.toml: stepz is unknown"),
        ("steps = 0", "steps is 0: input should be greater than 0"),
        ("steps = '5'", "steps is '5'"),
        ("patch = 100", "patch must be a multiple of"),
        ("lr = nan", "finite numbers"),
        ("lr = 2020-01-01", "finite numbers"),
        ("betas = [0.1]", "betas"),
    ],
)
def test_a_wrong_vae_file_is_one_error_with_field_and_value(text, message, tmp_path):
    path = tmp_path / "my.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        vae_preset(str(path))


def test_names_and_files_that_do_not_exist(tmp_path, host):
    lost = str(tmp_path / "lost.toml")
    for load in (vae_preset, LayerConfig.preset, lambda name: recipe_preset(RECIPE, name)):
        with pytest.raises(ConfigError, match=r"no preset 'huge' for .*; there are: default, .*\.toml file"):
            load("huge")
        with pytest.raises(ConfigError, match=r"cannot read .*lost\.toml"):
            load(lost)
    with pytest.raises(UsageError, match="no preset 'huge'"):
        preset_toml(host, "cinn", "huge")


def test_nothing_is_written_as_a_word_and_read_back(tmp_path):
    path = tmp_path / "my.toml"
    path.write_text("clip_norm = 'none'")
    assert vae_preset(str(path)).clip_norm is None
    path.write_text("[cinn]\npatience = 'none'")
    assert LayerConfig.preset(str(path)).cinn.patience is None


def test_toml_is_written_as_it_can_be_read():
    values = {"a": 1, "b": [0.5, 1e-7], "c": True, "d": 'say "x"\n', "e": None, "t": {"f": 2.0, "g": "g"}}
    assert tomllib.loads(toml_text(values)) == plain(values)


def test_provenance_names_a_file_without_its_folders():
    assert preset_label("/home/somebody/my.toml") == "my.toml"
    assert preset_label("tiny") == "tiny"
