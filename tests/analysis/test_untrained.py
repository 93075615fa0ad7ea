"""Training-free analysis: no part is trained, every figure follows from the images, and what it cannot do is said."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from kept_vae import vae_file
from safetensors import safe_open
from small_network import TINY, disc_image
from torch import nn

import invkit
from invkit.analysis.whole import with_plugin_metrics
from invkit.data.dose.image import estimate_noise
from invkit.data.dose.texture import noise_texture
from invkit.errors import InputError
from invkit.plugins.manager import PluginHost
from invkit.report.table import rows
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
    proof, frame = result.metrics["certified"], result.metrics["frame_px"]
    assert torch.equal(result.raw, result.samples)
    assert len(result.samples) == proof["count"] == 12
    inside = result.samples[:, 0, 0, frame:-frame, frame:-frame]
    assert "spread_hu" not in result.metrics and "fiber_error" not in result.metrics
    assert proof["spread_hu"] is None  # 40 x 32 pixels less the frame are too few
    assert inside.double().var(0).mean().sqrt() < result.metrics["noise"]["in_hu"]["value"]
    assert "too small for a spread" in result.metrics["random_phi"]["unavailable"]
    assert result.metrics["frame_needs_px"] == 32 + 2 * frame
    assert "witnesses" not in result.metrics


def test_the_verdict_claims_no_model_and_the_report_can_be_read_back(found, tmp_path):
    result, _ = found
    text = " ".join(result.layers[0].verdict.sentences)
    assert text.startswith("In short: not interpretable, because padding reaches too far into the image")
    assert "model" not in text.replace("of the model", "")
    folder = result.save(tmp_path / "run")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["analysis"]["sampler"] == "training-free"
    page = (folder / "report.html").read_text()
    assert "nothing was trained for them" in page
    assert "VAE was trained" not in page


def test_a_vae_that_is_at_hand_judges_the_image(found, call, place, tmp_path, tmp_path_factory):
    without, _ = found
    path = vae_file(place, tmp_path_factory)
    said = []
    result = call(vae_preset="tiny", say=said.append)
    assert not any("training it" in line for line in said)
    assert result.provenance["vae"]["sha256"] == load_vae(path).sha256
    assert torch.equal(result.samples, without.samples)
    plain, judged = (one.metrics["plausibility"] for one in (without, result))
    assert set(judged["traits"]) == {*plain["traits"], "critic score", "code"} > set(plain["traits"])
    assert judged["code_nll"] is not None and plain["code_nll"] is None
    page = (result.save(tmp_path / "run") / "report.html").read_text()
    assert "that judge the image were trained on" in page


def test_samples_do_not_depend_on_how_many_are_drawn(found, call):
    few = call(samples=5)
    torch.testing.assert_close(few.raw, found[0].raw[:5], atol=0.05, rtol=0)


def test_without_draws_what_is_shown_is_the_prior(call):
    """Noise of the image's dose about x, which says nothing of the layer, and the verdict says so."""
    few = call(samples=40, refine="none")
    assert "certified" not in few.metrics
    assert not few.layers[0].conclusion.interpretable
    apart = (few.raw[:, 0] - few.x).square().mean().sqrt()
    assert float(apart) == pytest.approx(estimate_noise(few.x), rel=0.1)


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
    assert "certified" not in result.metrics and "structures" not in result.metrics
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
                invkit.Metric("undefined", lambda each: {"good": 1, "bad": float("nan")}),
                invkit.Metric("numpy", lambda each: np.float32(0.5)),
                invkit.Metric("tensors", lambda each: {"mean": torch.tensor(2.0), "count": np.int64(3)}),
                invkit.Metric("many", lambda each: torch.zeros(2)),
            ]

    host = PluginHost(installed=False)
    host.add_object(Plugin())
    layers = (*result.layers, dataclasses.replace(result.layers[0], layer="a longer name"))
    several = dataclasses.replace(result, layers=layers)
    measured = with_plugin_metrics(several, host)
    why = {
        "broken": "ZeroDivisionError: division by zero (analysis/test_untrained.py, line ",
        "undefined": "compute gave nan for 'bad'; it must be finite",
        "many": "compute must return a number or a dict of numbers, got a Tensor of shape (2,)",
    }
    told = [text for text in measured.warnings if text not in several.warnings]
    names = [(name, layer) for layer in ("0", "a longer name") for name in why]
    for text, (name, layer) in zip(told, names, strict=True):
        assert text.startswith(f"The metric {name} failed for layer {layer}: {why[name]}")
    for layer in measured.layers:
        assert layer.metrics["name-length"] == len(layer.layer)
        assert layer.metrics["numpy"] == 0.5
        assert layer.metrics["tensors"] == {"mean": 2.0, "count": 3}
        assert type(layer.metrics["tensors"]["count"]) is int
        for name, reason in why.items():
            assert layer.metrics[name]["failed"].startswith(reason)
    json.dumps(measured.to_json())
    shown = {row.key: row.value for row in rows(measured.layers[0].metrics)}
    assert shown["broken.failed"].startswith(why["broken"])
    assert shown["name-length"] == "1"


def test_a_marked_structure_has_figures_a_sentence_and_images(call, tmp_path):
    result = call(structure=(8, 12, 16, 14), samples=2, refine=0)
    found = result.metrics["structure"]
    assert found["box_px"] == [8, 12, 16, 14]
    assert 0 < found["share"] <= found["share_companion"] <= 1
    assert found["weakest_hu"] == pytest.approx((1 - found["share"]) * found["contrast_hu"])
    assert any(
        text.startswith("The structure at 8,12,16,14 has") for text in result.layers[0].verdict.sentences
    )
    folder = result.save(tmp_path / "run")
    assert {"hidden.png", "structure.png"} <= {path.name for path in (folder / "figures").iterdir()}
    with safe_open(folder / "samples.safetensors", "pt") as file:
        kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for name in ("hidden", "hidden_companion", "structure", "structure_companion"):
        assert kept[f"layer0.{name}.changed"].shape == (1, 1, 40, 32)
    taken = kept["layer0.structure.changed"] - kept["layer0.structure.x"]
    assert torch.equal(kept["layer0.structure.x"], kept["x"])
    assert torch.allclose(taken, kept["layer0.structure.structure"], atol=1e-3)
    assert "The image in which the marked structure is weakest" in (folder / "report.html").read_text()


def test_without_a_marked_structure_nothing_is_said_of_one(found):
    assert "structure" not in found[0].metrics
    assert not [name for name in found[0].tensors() if "structure." in name]


def test_a_structure_that_padding_reaches_is_refused(call):
    with pytest.raises(InputError, match="Mark one further inside, or give a larger image"):
        call(structure="0,12,16,14", samples=2, refine=0)
