"""Which layers are analysed: what is named, else what the denoiser says, else the output; what is no name is refused in words."""

import pytest
from small_network import TINY, Small, disc_image

import invkit
from invkit.analysis.specs import ImageSpec, Runtime, SamplingSpec, TrainingSpec
from invkit.analysis.whole import Analysis
from invkit.errors import InvkitError

LAYERS = (invkit.Layer("1", "0"), invkit.Layer("3", "2"))
SPEC = invkit.Denoiser("small", Small, invkit.Affine(0.0, 1.0), LAYERS)
CHOSEN = invkit.Denoiser("small", Small, invkit.Affine(0.0, 1.0), LAYERS, default_layer="3")


@pytest.fixture
def names(place):
    def of(model, layer):
        return Analysis(
            invkit.load(model),
            layer,
            ImageSpec(disc_image(40, 32)),
            SamplingSpec(sampler="training-free"),
            TrainingSpec(["phantoms:12"], "image", config=TINY, cache=place["cache"]),
            Runtime(),
        ).names

    return of


@pytest.mark.parametrize(
    ("model", "layer", "expected"),
    [
        (SPEC, None, ["output"]),
        (CHOSEN, None, ["3"]),
        (Small(), None, ["output"]),
        (CHOSEN, "1", ["1"]),
        (CHOSEN, ["1", "0+2", "1"], ["1", "0+2"]),
        (CHOSEN, "all", ["1", "3"]),
        (CHOSEN, ["input", "all"], ["input", "1", "3"]),
    ],
)
def test_the_layers_that_are_asked_for(model, layer, expected, names):
    assert names(model, layer) == expected


@pytest.mark.parametrize("name", ["chen2017", "yang2018"])
def test_the_two_that_come_along_are_analysed_at_layer_3(name):
    assert invkit.load(name).spec.default_layer == "3"


@pytest.mark.parametrize(
    "layer", [[], (), [[]], [["1"]], (("1", "0"),), {"1": "0"}, 3, b"1", [None], "", "1,3", "all+1"]
)
def test_what_is_no_name_is_refused_in_words(layer, names):
    with pytest.raises(InvkitError, match="layer"):
        names(CHOSEN, layer)
