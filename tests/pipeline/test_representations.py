"""The path from an image to a report in representations beside the VAE, at tiny sizes."""

import numpy as np
import pytest
import torch
from torch import nn

import invkit
from invkit.pipeline.layer_config import LayerConfig
from invkit.plugins.manager import PluginHost
from invkit.sampling.distance import activation_distance


class Small(nn.Sequential):
    """Two convolutions from HU to HU; what they lose is in the last."""

    def __init__(self):
        super().__init__(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 1, 1))
        with torch.random.fork_rng():
            torch.manual_seed(3)
            for parameter in self.parameters():
                nn.init.normal_(parameter, 0.2, 0.1)


OPTIONS = {
    "config": LayerConfig.preset("tiny"),
    "vae_preset": "tiny",
    "train_data": ["phantoms:12"],
    "samples": 12,
    "refine": 10,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return {"cache": tmp_path_factory.mktemp("cache"), "host": PluginHost(installed=False)}


@pytest.fixture(scope="module")
def image():
    rows, columns = np.mgrid[:50, :45]
    noise = np.random.default_rng(0).normal(0, 20, (50, 45))
    return (40 + 100 * (np.hypot(rows - 25, columns - 22) < 15) + noise).astype(np.float32)


@pytest.fixture(scope="module", params=["wavelet"])
def result(request, place, image):
    said = []
    found = invkit.analyze(
        Small(), "0", image, representation=request.param, **OPTIONS, **place, say=said.append
    )
    return found, said


def test_draws_reach_certificates_and_the_report(result, tmp_path):
    found, said = result
    assert sum("training it" in line for line in said) == 4  # the VAE of the ladder, the layer, input, const
    assert found.raw.shape == (12, 1, 1, 50, 45)
    split = invkit.Split(Small(), "0")
    layer = found.layers[0]
    scale = layer.provenance["scale"]
    before, after = (
        activation_distance(split.phi(s[:, 0]), split.phi(found.x)) for s in (found.raw, found.samples)
    )
    assert layer.metrics["certified"]["count"] == len(found.samples) >= 8
    assert (after / scale <= 1.001 * layer.metrics["certified"]["epsilon"]).all()
    assert before.square().mean().sqrt() / scale == pytest.approx(
        layer.metrics["fiber_error"]["samples"]["value"]
    )
    page = found.report(tmp_path / "report.html").read_text()
    assert "refined samples are certified" in page
    assert found.provenance["representation"] == layer.provenance["kind"]


def test_the_likelihood_has_the_floor_of_the_noise_that_was_added(result):
    found, _ = result
    nll = found.metrics["nll"]
    floor = 0.5 * np.log(2 * np.pi * np.e * OPTIONS["config"].wavelet.dequantisation ** 2)
    assert nll["floor"] == pytest.approx(floor)
    value = {name: one["value"] if isinstance(one, dict) else one for name, one in nll.items()}
    assert value["floor"] < value["layer"]
    assert value["layer"] < value["const"]


def test_parts_are_found_again_and_sample_k_stays_what_it_was(result, place, image):
    found, _ = result
    said = []
    options = OPTIONS | {"samples": 5, "refine": "none"}
    again = invkit.analyze(
        Small(),
        found.layer,
        image,
        representation=found.provenance["representation"],
        **options,
        **place,
        say=said.append,
    )
    assert not [line for line in said if "training it" in line]
    assert torch.equal(again.raw, found.raw[:5])


def test_an_unknown_representation_is_refused(place, image):
    with pytest.raises(invkit.UsageError, match="wavelet"):
        invkit.analyze(Small(), "0", image, representation="fourier", **OPTIONS, **place)


def test_training_free_samples_have_no_representation(place, image):
    with pytest.raises(invkit.UsageError, match="a representation is chosen for"):
        invkit.analyze(
            Small(), "0", image, representation="wavelet", sampler="training-free", **OPTIONS, **place
        )
