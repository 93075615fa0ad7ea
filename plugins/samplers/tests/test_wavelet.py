"""The path from an image to a report with the wavelet flow, at tiny sizes."""

import numpy as np
import pytest
import torch
from invkit_samplers.wavelet.config import WaveletConfig
from kept_vae import IMAGE_NOISE, with_vae
from small_network import Small

import invkit
from invkit.fiber.distance import activation_distance

OPTIONS = {**IMAGE_NOISE, "samples": 12, "refine": 10}


@pytest.fixture(scope="module")
def place(place, tmp_path_factory):
    return with_vae(place, tmp_path_factory)


@pytest.fixture(scope="module")
def result(place, image):
    said = []
    found = invkit.analyze(Small(), "0", image, sampler="wavelet", **OPTIONS, **place, say=said.append)
    return found, said


def test_draws_reach_certificates_and_the_report(result, tmp_path):
    found, said = result
    assert sum("training it" in line for line in said) == 3  # the layer, input, const
    assert found.raw.shape == (12, 1, 1, 50, 45)
    split = invkit.Split(Small(), "0")
    layer = found.layers[0]
    scale = layer.provenance["scale"]
    before = activation_distance(split.phi(found.raw[:, 0]), split.phi(found.x))
    (witnesses,) = layer.witnesses
    assert layer.metrics["witnesses"]["count"] == len(witnesses.samples) >= 7
    assert (witnesses.details["distance_before"] >= witnesses.distances).all()
    assert before.square().mean().sqrt() / scale == pytest.approx(
        layer.metrics["fiber_error"]["samples"]["value"]
    )
    page = found.report(tmp_path / "report.html").read_text()
    assert "of its samples are certified at the same tolerance" in page
    assert found.provenance["sampler"] == layer.provenance["kind"]


def test_the_likelihood_has_the_floor_of_the_noise_that_was_added(result):
    found, _ = result
    nll = found.metrics["nll"]
    floor = 0.5 * np.log(
        2 * np.pi * np.e * OPTIONS["config"].settings("wavelet", WaveletConfig).dequantisation ** 2
    )
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
        sampler=found.provenance["sampler"],
        **options,
        **place,
        say=said.append,
    )
    assert not [line for line in said if "training it" in line]
    assert torch.equal(again.raw, found.raw[:5])
