"""A sampler is found by its name, and draws images of its own domains only."""

import pytest
from small_network import TINY_OPTIONS, Small

import invkit

OPTIONS = {**TINY_OPTIONS, "samples": 12, "refine": 10}


def test_an_unknown_sampler_is_refused(place, image):
    with pytest.raises(invkit.UnknownNameError, match="training-free, vae"):
        invkit.analyze(Small(), "0", image, sampler="fourier", **OPTIONS, **place)


def test_training_free_samples_are_low_dose_images(place, image):
    with pytest.raises(invkit.UsageError, match="training-free draws images of the domain low"):
        invkit.analyze(Small(), "0", image, sampler="training-free", domain="high", **OPTIONS, **place)
