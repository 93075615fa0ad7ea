"""A layer that keeps nearly everything: what is certified there is no more than the tolerance allows."""

import invkit
from invkit.data.slices import load_slices
from invkit.parts.config import LayerConfig


def test_the_first_layer_of_chen2017_ignores_nothing_that_counts(place):
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
    certified = layer.metrics["certified"]
    assert certified["count"] == 8
    assert certified["spread_hu"]["value"] <= 0.5
    assert certified["spread_hu"]["value"] <= 0.02 * certified["proposal_spread_hu"]["value"]
    for row in layer.certificates:
        assert row["spread_epsilon_hu"] == certified["spread_epsilon_hu"] > 0
        # Neither critic nor code is known without a VAE.
        assert row["plausibility"]["texture"] is not None
        assert row["plausibility"]["critic"] is None
    assert "critic score" not in certified["plausible"]["traits"]
    assert "phantoms" in certified["plausible"]["images"]
    assert any("nothing is proven invisible" in sentence for sentence in layer.verdict.sentences)
