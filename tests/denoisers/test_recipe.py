"""Recipes: presets with changes inside their parts, and what is refused before a training begins."""

import dataclasses
import functools
import json
import math
import sys

import pytest

from invkit.denoisers.recipe import Adversarial, Perceptual, Recipe
from invkit.errors import ConfigError


def critic():
    raise AssertionError("describing a recipe builds nothing")


class Maker:
    def __call__(self):
        raise AssertionError("describing a recipe builds nothing")


WGAN = Recipe(
    patch=64,
    batch=8,
    steps=10,
    lr=1e-4,
    mse=0.0,
    adversarial=Adversarial(critic, critic_steps=4, lr=1e-5),
    perceptual=Perceptual(0.1, "vgg19"),
    presets={
        "benchmark": {"lr": 2e-4, "adversarial": {"critic_steps": 1}, "perceptual": {"weight": 0.5}},
        "plain": {"mse": 1.0, "adversarial": None, "perceptual": None},
        "default": {"steps": 11},
    },
)
PLAIN = Recipe(patch=33, batch=4, steps=5, lr=1e-3, betas=(0.5, 0.9))


def test_a_preset_changes_what_it_names_inside_a_part_too():
    changed = WGAN.preset("benchmark")
    assert changed.adversarial == Adversarial(critic, critic_steps=1, lr=1e-5)
    assert changed.perceptual == Perceptual(0.5, "vgg19")
    assert changed.lr == 2e-4
    kept = {"lr", "adversarial", "perceptual"}
    for field in dataclasses.fields(Recipe):
        if field.name not in kept:
            assert getattr(changed, field.name) == getattr(WGAN, field.name)


def test_a_preset_can_take_parts_away():
    plain = WGAN.preset("plain")
    assert (plain.adversarial, plain.perceptual, plain.mse) == (None, None, 1.0)


def test_changes_add_up_and_leave_the_recipe_as_it_was():
    before = WGAN.describe()
    twice = WGAN.preset("benchmark").changed({"adversarial": {"lr": 3e-5}, "steps": 7})
    assert twice.adversarial == Adversarial(critic, critic_steps=1, lr=3e-5)
    assert (twice.steps, twice.lr) == (7, 2e-4)
    assert WGAN.describe() == before
    assert WGAN.changed({}) == WGAN


def test_default_is_the_recipe_itself_unless_a_preset_has_that_name():
    assert PLAIN.preset("default") is PLAIN
    assert WGAN.preset("default").steps == 11


def test_a_part_that_is_missing_is_made_from_its_changes():
    assert PLAIN.changed({"perceptual": {"weight": 2.0}}).perceptual == Perceptual(2.0, "vgg19")
    made = PLAIN.changed({"adversarial": {"critic": critic, "critic_steps": 2}})
    assert made.adversarial == Adversarial(critic, critic_steps=2)
    with pytest.raises(ConfigError, match="critic"):
        PLAIN.changed({"adversarial": {"critic_steps": 2}})


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"stepz": 1}, "stepz"),
        ({"adversarial": {"weigth": 1.0}}, "weigth"),
        ({"perceptual": {"network": "vgg19"}}, "network"),
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"steps": 1e4}, r"steps must be a whole number of at least 1, got 10000\.0"),
        ({"steps": "10"}, "steps must be"),
        ({"batch": True}, "batch must be"),
        ({"patch": -3}, "patch must be"),
        ({"lr": 0}, "lr must be a number above 0"),
        ({"lr": math.nan}, "lr must be"),
        ({"lr": "1e-4"}, "lr must be"),
        ({"lr_end": -0.1}, "lr_end must be a number of at least 0"),
        ({"mse": math.inf}, "mse must be"),
        ({"mse_steps": -1}, "mse_steps must be a whole number of at least 0"),
        ({"mse_steps": 2.0}, "mse_steps must be"),
        ({"betas": (0.5,)}, "betas must be two numbers"),
        ({"betas": (0.5, 1.0)}, "betas must be"),
        ({"betas": 0.9}, "betas must be"),
        ({"betas": ("a", "b")}, "betas must be"),
        ({"adversarial": {"critic_steps": 0}}, "critic_steps must be"),
        ({"adversarial": {"gradient_penalty": -1}}, "gradient_penalty must be"),
        ({"adversarial": {"weight": 0}}, "weight must be a number above 0"),
        ({"adversarial": {"critic": "critic"}}, "critic must be a function"),
        ({"perceptual": {"weight": math.nan}}, "weight must be"),
        ({"perceptual": {"backbone": None}}, "backbone must be the name"),
        ({"adversarial": 3}, r"adversarial must be Adversarial\(\.\.\.\) or None"),
        ({"perceptual": "vgg19"}, r"perceptual must be Perceptual\(\.\.\.\) or None"),
        ({"adversarial": None, "perceptual": None}, "needs at least one loss term"),
    ],
)
def test_what_cannot_be_trained_with_is_refused(changes, match):
    with pytest.raises(ConfigError, match=match) as caught:
        WGAN.changed(changes)
    assert caught.value.exit_code == 2


def test_an_unknown_preset_is_refused_with_those_there_are():
    with pytest.raises(ConfigError, match="no training preset 'quick'; there are: benchmark, default, plain"):
        WGAN.preset("quick")
    with pytest.raises(ConfigError, match="no training preset 'quick'; there are: default"):
        PLAIN.preset("quick")


def test_a_start_by_mean_squared_error_alone_is_a_term():
    assert PLAIN.changed({"mse": 0.0, "mse_steps": 5}).mse_steps == 5
    with pytest.raises(ConfigError, match="needs at least one loss term"):
        PLAIN.changed({"mse": 0.0, "mse_steps": 4})


def test_betas_from_a_file_are_a_list_there_and_a_pair_here():
    assert PLAIN.changed({"betas": [0.5, 0.9]}) == PLAIN


def test_the_description_is_json_and_tells_recipes_apart():
    described = [
        WGAN,
        PLAIN,
        *(WGAN.preset(name) for name in WGAN.presets),
        WGAN.changed({"mse_steps": 1}),
        WGAN.changed({"lr_end": 0.5}),
        WGAN.changed({"adversarial": {"weight": 0.5}}),
        WGAN.changed({"perceptual": {"backbone": "hed-vgg16"}}),
    ]
    assert len({json.dumps(recipe.describe(), sort_keys=True) for recipe in described}) == len(described)
    assert json.loads(json.dumps(WGAN.describe())) == WGAN.describe()
    fields = {field.name for field in dataclasses.fields(Recipe)}
    assert WGAN.describe().keys() == fields - {"presets"}
    assert WGAN.describe()["adversarial"].keys() == {f.name for f in dataclasses.fields(Adversarial)}
    assert WGAN.describe()["adversarial"]["critic"].endswith("test_recipe.critic")


def test_a_critic_that_is_no_plain_function_is_described_without_its_address():
    for made in (Maker(), functools.partial(critic)):
        text = json.dumps(WGAN.changed({"adversarial": {"critic": made}}).describe())
        assert "0x" not in text


def test_a_preset_can_be_a_file_of_a_package(tmp_path, monkeypatch):
    package = tmp_path / "recipe_of_a_stranger"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "big.toml").write_text("steps = 99\nbetas = [0.1, 0.2]\n[adversarial]\ncritic_steps = 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    big = dataclasses.replace(WGAN, presets={"big": "package:recipe_of_a_stranger/big.toml"}).preset("big")
    assert (big.steps, big.betas, big.adversarial) == (
        99,
        (0.1, 0.2),
        Adversarial(critic, critic_steps=2, lr=1e-5),
    )
    for source in ("package:recipe_of_a_stranger/lost.toml", "package:no_such_package_here/big.toml"):
        with pytest.raises(ConfigError, match="is missing"):
            dataclasses.replace(WGAN, presets={"big": source}).preset("big")
    for source in ("big.toml", "package:recipe_of_a_stranger", "package:recipe_of_a_stranger/../secret.toml"):
        with pytest.raises(ConfigError, match="is not of the form"):
            dataclasses.replace(WGAN, presets={"big": source}).preset("big")
    sys.modules.pop("recipe_of_a_stranger", None)


def test_a_critic_is_built_for_the_patch_where_it_can_be():
    assert Adversarial(lambda patch=64: patch).build_critic(33) == 33
    assert Adversarial(lambda: "one size").build_critic(33) == "one size"
