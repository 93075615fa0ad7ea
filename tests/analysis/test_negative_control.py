"""A layer that keeps nearly everything: what hides from it is no more than the tolerance explains."""

import invkit
from invkit.data.slices import load_slices
from invkit.parts.config import LayerConfig


def test_the_first_layer_of_chen2017_hides_nothing_that_counts(place):
    phantom = load_slices(["phantoms:12"], size=64).part("test").slices[0]
    result = invkit.analyze(
        "chen2017",
        "1",
        phantom.image,
        dose=0.25,
        sampler="training-free",
        config=LayerConfig(pairs=64),
        samples=8,
        refine=8,
        train_data=["phantoms:12"],
        train_noise="image",
        cache=place["cache"],
    )
    (layer,) = result.layers
    noise = layer.metrics["noise"]
    assert layer.metrics["certified"]["count"] == 8
    assert noise["hidden_hu"]["value"] <= noise["identity_hidden_hu"]["value"]
    assert noise["hidden_hu"]["value"] <= 0.1 * noise["in_hu"]["value"]
    for row in layer.metrics["structures"]:
        assert row["hidden_hu"]["value"] <= 1.3 * row["identity_hidden_hu"]["value"]
    assert layer.conclusion.anatomy is not True
    assert "hides no more of a disc than the tolerance explains" in layer.conclusion.text
    # Neither critic nor code is known without a VAE.
    assert layer.metrics["plausibility"]["texture"] is not None
    assert layer.metrics["plausibility"]["critic"] is None
    assert "phantoms" in layer.metrics["plausibility"]["images"]
