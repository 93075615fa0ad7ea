"""A sampler is found by its name, and draws images of its own domains only."""

import pytest
from small_network import TINY_OPTIONS, Small

import invkit

OPTIONS = {**TINY_OPTIONS, "samples": 12, "refine": 10}


def test_an_unknown_sampler_is_refused(place, image):
    with pytest.raises(invkit.UnknownNameError, match="training-free, vae"):
        invkit.analyze(Small(), "0", image, sampler="fourier", **OPTIONS, **place)


def test_a_sampler_that_does_not_say_what_it_proposes_is_quoted_by_its_name():
    assert invkit.Sampler("mine", "a.b:C", trained=False).proposals == "draws of the sampler mine"


def test_training_free_samples_are_low_dose_images(place, image):
    with pytest.raises(invkit.UsageError, match="training-free draws images of the domain low"):
        invkit.analyze(Small(), "0", image, sampler="training-free", domain="high", **OPTIONS, **place)
