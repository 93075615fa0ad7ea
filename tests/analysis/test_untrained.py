"""Training-free analysis: no part is trained, every figure follows from the images, and what it cannot do is said."""

import dataclasses
import json

import pytest
import torch
from kept_vae import vae_file
from small_network import TINY, disc_image
from torch import nn

import invkit
from invkit.analysis.whole import with_plugin_metrics
from invkit.data.dose.texture import noise_texture
from invkit.fiber.distance import activation_distance
from invkit.plugins.manager import PluginHost
from invkit.vae.trained import load_vae


@pytest.fixture(scope="module")
def network():
    blur = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    nn.init.constant_(blur.weight, 1 / 9)
    return nn.Sequential(blur)


@pytest.fixture(scope="module")
def call(network, place):
    image = disc_image(40, 32, radius=9)
    options = {
        "config": TINY,
        "train_data": ["phantoms:12"],
        "train_noise": "image",
        "sampler": "training-free",
        **place,
    }

    def run(**changes):
        return invkit.analyze(network, **{"layer": "0", "data": image, "samples": 12, **options, **changes})

    return run


@pytest.fixture(scope="module")
def found(call):
    said = []
    return call(say=said.append), said


def test_nothing_is_trained(found):
    result, said = found
    assert not any("training it" in line for line in said)
    assert result.vae is None
    assert result.layers[0].swap is None
    assert result.layers[0].trained == "not needed"
    assert result.to_json()["sampler"] == "training-free"


def test_the_noise_is_that_of_the_users_scans_where_there_are_any(found, call):
    noise = 9 * noise_texture(6, 40, 32, generator=torch.Generator().manual_seed(0))
    result = call(noise_scans=(disc_image(40, 32, radius=9) + noise.numpy()[:, 0]), samples=2, refine=0)
    measured, simulated = (one.layers[0].metrics["noise"] for one in (result, found[0]))
    assert measured["source"] == "scans"
    assert simulated["source"] == "simulation"
    assert measured["in_hu"]["value"] == pytest.approx(9, rel=0.15)
    assert result.to_json()["provenance"]["noise_scans"]["name"] == "the array"


def test_figures_follow_from_the_images(found, network):
    result, _ = found
    split = invkit.Split(network, "0")
    scale = result.layers[0].provenance["scale"]
    raw = activation_distance(split.phi(result.raw[:, 0]), split.phi(result.x)) / scale
    error = raw.square().mean().sqrt().item()
    assert result.metrics["fiber_error"]["samples"]["value"] == pytest.approx(error, rel=1e-3)
    certified = activation_distance(split.phi(result.samples[:, 0]), split.phi(result.x)) / scale
    proof = result.metrics["certified"]
    assert len(result.samples) == proof["count"] >= 8
    assert (certified <= 1.01 * proof["epsilon"]).all()
    assert result.metrics["fiber_error"].keys() == {"samples", "noise_white", "nearest", "random"}
    assert result.metrics["fiber_error"].keys() == result.metrics["ladder"]["f_error_hu"].keys()
    assert result.metrics["random_phi"]["certified"]["refined"] == 6
    spread = result.samples[:, 0].double().std(0).square().mean().sqrt().item()
    assert proof["spread_hu"]["value"] == pytest.approx(spread, rel=1e-3)
    assert "training_free" not in proof  # it is the baseline itself


def test_the_verdict_claims_no_model_and_the_report_can_be_read_back(found, tmp_path):
    result, _ = found
    text = " ".join(result.layers[0].verdict.sentences)
    assert "they are f(x) plus noise with the spectrum of x - f(x), need no training" in text
    assert "spread of the model" not in text
    folder = result.save(tmp_path / "run")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["analysis"]["sampler"] == "training-free"
    page = (folder / "report.html").read_text()
    assert "nothing was trained for them" in page
    assert "VAE was trained" not in page


def test_a_vae_that_is_at_hand_judges_what_is_certified(found, call, place, tmp_path, tmp_path_factory):
    without, _ = found
    path = vae_file(place, tmp_path_factory)
    said = []
    result = call(vae_preset="tiny", say=said.append)
    assert not any("training it" in line for line in said)
    assert result.provenance["vae"]["sha256"] == load_vae(path).sha256
    assert torch.equal(result.samples, without.samples)
    traits = {
        name: one.metrics["certified"]["plausible"]["traits"]
        for name, one in (("", without), ("vae", result))
    }
    assert set(traits["vae"]) == {*traits[""], "critic score", "code"} > set(traits[""])
    assert all(row["plausibility"]["code_nll"] is not None for row in result.certificates)
    page = (result.save(tmp_path / "run") / "report.html").read_text()
    assert "judge certified samples were trained on" in page


def test_another_denoiser_is_shown_what_is_certified(network, place):
    image = disc_image(40, 32, radius=9)
    options = {"config": TINY, "train_data": ["phantoms:12"], "sampler": "training-free", "samples": 8}
    result = invkit.analyze(network, "0", image, **options, cache=place["cache"])
    shown = result.metrics["variation"]["transfer"]
    assert shown["denoiser"] in ("chen2017", "yang2018")
    assert shown["error"]["value"] > 0


def test_samples_do_not_depend_on_how_many_are_drawn(found, call):
    few = call(samples=5, refine="none")
    torch.testing.assert_close(few.raw, found[0].raw[:5])
    assert "certified" not in few.metrics


@pytest.mark.parametrize(
    ("change", "match"),
    [({"domain": "high"}, "images of the domain low, not high"), ({"sampler": "magic"}, "training-free")],
)
def test_what_cannot_be_is_said(call, change, match):
    with pytest.raises((invkit.UsageError, invkit.UnknownNameError), match=match):
        call(**change)


def test_of_a_quantiser_there_are_proposals_only_and_the_report_says_so(place, tmp_path):
    result = invkit.analyze(
        "oracle-quantiser",
        "round",
        disc_image(40, 32, radius=9),
        config=TINY,
        train_data=["phantoms:12"],
        sampler="training-free",
        samples=12,
        **place,
    )
    (layer,) = result.layers
    assert layer.unrefined == "no gradient of this layer reaches the image"
    assert not layer.certified
    assert not layer.certificates
    assert "certified" not in result.metrics
    assert torch.equal(result.raw, result.samples)
    assert not layer.conclusion.interpretable
    text = result.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "no gradient of this layer reaches the image" in text


def test_a_plugins_metric_is_computed_for_every_layer_and_one_that_fails_costs_no_other(found):
    result, _ = found

    class Plugin:
        @invkit.hookimpl
        def invkit_metrics(self):
            return [
                invkit.Metric("name-length", lambda each: len(each.layer), unit="letters"),
                invkit.Metric("broken", lambda each: 1 / 0),
            ]

    host = PluginHost(installed=False)
    host.add_object(Plugin())
    layers = (*result.layers, dataclasses.replace(result.layers[0], layer="a longer name"))
    several = dataclasses.replace(result, layers=layers)
    with pytest.warns(UserWarning, match="metric broken") as told:
        measured = with_plugin_metrics(several, host)
    assert [str(one.message) for one in told] == [
        f"metric broken failed for layer {name}: ZeroDivisionError" for name in ("0", "a longer name")
    ]
    for layer in measured.layers:
        assert layer.metrics["name-length"] == len(layer.layer)
        assert layer.metrics["broken"] is None
