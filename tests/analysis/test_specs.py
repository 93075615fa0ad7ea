"""What can be asked of an analysis is refused at once, in words, where it cannot be."""

import re

import numpy as np
import pytest
import torch

import invkit
from invkit.analysis.specs import ImageSpec, SamplingSpec, TrainingSpec
from invkit.errors import ConfigError, UsageError
from invkit.images.box import Box
from invkit.parts.preset_file import toml_text
from invkit.vae.vae import VaeConfig


@pytest.mark.parametrize("value", [2.5, 8.0, "8", None, True])
@pytest.mark.parametrize("name", ["samples", "seed", "train_seed"])
def test_counts_and_seeds_are_whole_numbers(name, value):
    with pytest.raises(UsageError, match=re.escape(f"{name} must be a whole number, got {value!r}")):
        invkit.analyze(**{name: value})


def test_whole_numbers_of_any_library_are_plain_ones():
    spec = SamplingSpec(samples=np.int16(2), seed=np.uint64(3))
    assert (spec.samples, spec.seed, TrainingSpec(seed=np.int64(4)).seed) == (2, 3, 4)
    assert {type(spec.samples), type(spec.seed), type(TrainingSpec(seed=np.int64(4)).seed)} == {int}
    with pytest.raises(UsageError, match="at least 2 samples, got 1"):
        SamplingSpec(samples=1)


def test_a_preset_is_checked_before_anything_is_made(tmp_path):
    with pytest.raises(ConfigError, match="no preset 'huge' for a VAE; there are: default"):
        TrainingSpec(vae_preset="huge")
    with pytest.raises(ConfigError, match="cannot read"):
        TrainingSpec(vae_preset=str(tmp_path / "missing.toml"))
    path = tmp_path / "my.toml"
    path.write_text(toml_text({"steps": 7}))
    for good in ("tiny", str(path), VaeConfig()):
        assert TrainingSpec(vae_preset=good).vae_preset == good


@pytest.mark.parametrize("name", ["controls", "domain", "structures"])
def test_a_choice_names_what_there_is(name):
    with pytest.raises(UsageError, match=f"{name}.*'all'"):
        invkit.analyze(**{name: "all"})


def test_a_structure_is_marked_in_one_image():
    images = torch.zeros(2, 1, 32, 32)
    assert ImageSpec(images[:1], structure="4,6,10,12").subject(0, "cpu").structure == Box(4, 6, 10, 12)
    with pytest.raises(UsageError, match="give that image alone"):
        ImageSpec(images, structure=(4, 6, 10, 12)).subject(0, "cpu")
    with pytest.raises(UsageError, match="extends beyond"):
        ImageSpec(images[:1], structure=(4, 6, 10, 40)).subject(0, "cpu")
