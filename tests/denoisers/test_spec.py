"""What a plugin may say about a denoiser, and what it may not (faults 17, 21, 25)."""

import dataclasses
import json
import subprocess
import sys

import pytest

from invkit.denoisers.recipe import Adversarial, Perceptual, Recipe
from invkit.denoisers.spec import CONTROLS, Affine, Denoiser, Layer, Preprocessing, Weights
from invkit.errors import ConfigError, DenoiserError

SHA = "0" * 64


def denoiser(**changes):
    return Denoiser(**{"name": "net", "build": lambda: None, "preprocessing": Affine(0.0, 1.0), **changes})


def weights(**changes):
    described = {"tag": "bundled", "source": "a", "sha256": SHA, "trained_on": "phantoms", "license": "MIT"}
    return Weights(**{**described, **changes})


def test_importing_a_description_imports_no_torch():
    code = (
        "import sys, invkit.denoisers, invkit.denoisers.spec, invkit.denoisers.recipe;"
        "assert not {'torch', 'numpy'} & set(sys.modules), 'heavy import'"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_descriptions_are_frozen():
    for described, name in (
        (denoiser(), "name"),
        (Layer("1", "a"), "key"),
        (weights(), "tag"),
        (Affine(0, 1), "std"),
    ):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(described, name, "other")


def test_lists_become_tuples():
    described = denoiser(layers=[Layer("1", "a")], weights=[weights()])
    assert (described.layers, described.weights) == ((Layer("1", "a"),), (weights(),))


@pytest.mark.parametrize(
    ("field", "kind"), [("layers", "Layer"), ("weights", "Weights"), ("upstreams", "Upstream")]
)
@pytest.mark.parametrize("given", [["a"], 1, None, Layer("1", "a")])
def test_a_list_of_something_else_is_named(field, kind, given):
    with pytest.raises(DenoiserError, match=f"denoiser net: {field} must be .* of invkit.{kind}, got "):
        denoiser(**{field: given})


@pytest.mark.parametrize("name", ["yang2018", "a", "my-net", "my_net", "3d"])
def test_names_that_may_be(name):
    assert denoiser(name=name).name == name


@pytest.mark.parametrize(
    "name",
    ["", "Yang", "../x", "a/b", "a.b", "a b", "-a", "é", "a\n", "<img>", "[/oops]", "a\x00", "nul.", None, 3],
)
def test_names_that_may_not_be(name):
    with pytest.raises(DenoiserError, match="must match"):
        denoiser(name=name)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"build": "network"}, "build must be a function"),
        ({"preprocessing": None}, "must have normalise"),
        ({"unit": "1/cm"}, "only 'HU' and 1"),
        ({"channels": 2}, "only 'HU' and 1 or 3"),
        ({"size_multiple": 0}, "at least 1, got 0"),
        ({"layers": (Layer("1", "a"), Layer("1", "b"))}, "layer key '1' is defined twice"),
        ({"layers": (("1", "0"),)}, "must be a list or tuple of invkit.Layer, got"),
        ({"layers": (Layer("1", "a"),), "default_layer": "2"}, r"'output' or one of its keys \(1\), got '2'"),
        ({"layers": (), "default_layer": "input"}, r"it has none\), got 'input'"),
        ({"weights": (weights(), weights())}, "weights tag 'bundled' is defined twice"),
    ],
)
def test_impossible_denoisers(changes, text):
    with pytest.raises(DenoiserError, match=text):
        denoiser(**changes)


@pytest.mark.parametrize("given", [(1, "a", ""), ("1", None, ""), ("1", "a", None)])
def test_a_layer_is_all_text(given):
    with pytest.raises(DenoiserError, match="key, module and note are strings"):
        Layer(*given)


@pytest.mark.parametrize("key", ["", *CONTROLS, "a,b", "module:a"])
def test_keys_that_mean_something_else(key):
    with pytest.raises(DenoiserError, match="cannot be a layer's key"):
        Layer(key, "net.0")


@pytest.mark.parametrize(
    "changes", [{"tag": "Best"}, {"tag": "../x"}, {"sha256": "0" * 63}, {"sha256": "G" * 64}]
)
def test_impossible_weights(changes):
    with pytest.raises(DenoiserError, match=r"tag|sha256"):
        weights(**changes)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 0.0), (0.0, -1.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_impossible_affine(mean, std):
    with pytest.raises(DenoiserError, match="finite mean and a positive std"):
        Affine(mean, std)


def test_affine_is_invertible_and_says_what_it_is():
    scale = Affine(mean=481.4542, std=502.1851)
    assert scale.normalise(481.4542 + 502.1851) == pytest.approx(1.0)
    assert scale.denormalise(scale.normalise(-700.0)) == pytest.approx(-700.0)
    assert scale.describe() == {"kind": "affine", "mean": 481.4542, "std": 502.1851}
    assert isinstance(scale, Preprocessing)


def critic():
    return None


RECIPE = Recipe(
    patch=64,
    batch=8,
    steps=10,
    lr=1e-4,
    adversarial=Adversarial(critic, lr=1e-5),
    perceptual=Perceptual(0.1, "vgg19"),
    presets={
        "paper": {"steps": 100, "adversarial": {"critic_steps": 4}, "perceptual": None},
        "wrong": {"stepz": 1},
    },
)


def test_a_preset_changes_only_what_it_names():
    paper = RECIPE.preset("paper")
    assert (paper.steps, paper.patch, paper.perceptual) == (100, 64, None)
    assert paper.adversarial == Adversarial(critic, lr=1e-5, critic_steps=4)
    assert RECIPE.preset("default") == RECIPE


def test_presets_and_fields_that_do_not_exist():
    with pytest.raises(ConfigError, match="no training preset 'quick'; there are: default, paper, wrong"):
        RECIPE.preset("quick")
    with pytest.raises(ConfigError, match="unknown or missing field"):
        RECIPE.preset("wrong")
    with pytest.raises(ConfigError, match="unknown or missing field"):
        RECIPE.changed({"adversarial": {"weigth": 2}})


def test_a_recipe_describes_itself_in_json():
    described = json.loads(json.dumps(RECIPE.describe()))
    assert described["patch"] == 64
    assert described["betas"] == [0.9, 0.999]
    assert described["adversarial"]["critic"].endswith("test_spec.critic")
    assert described["perceptual"] == {"weight": 0.1, "backbone": "vgg19"}
    assert Recipe(patch=33, batch=1, steps=1, lr=1.0).describe()["adversarial"] is None


def test_layers_may_be_modules_by_their_keys():
    made = denoiser(layers={"1": "conv1", "2": "body.3"})
    assert made.layers == (Layer("1", "conv1"), Layer("2", "body.3"))
    with pytest.raises(DenoiserError, match="a layer's key, module and note are strings"):
        denoiser(layers={"1": 3})
