"""The representation that is given f(x), from images to a report, at tiny sizes."""

from dataclasses import replace

import pytest
import torch
from invkit_samplers.conditional.code import ConditionalConfig, ConditionalVae
from invkit_samplers.conditional.family import Conditional
from invkit_samplers.conditional.train import (
    ConditionalVaeRequest,
    TrainedConditional,
)
from invkit_samplers.conditional.train_flow import ConditionalRequest, ConditionalTraining
from kept_vae import IMAGE_NOISE, with_vae
from small_network import TINY, Small

import invkit
from invkit import ArtifactError
from invkit.data.slices import load_slices
from invkit.parts.preset_file import vae_preset
from invkit.parts.store import Store
from invkit.samplers import LayerRequest, Regressor
from invkit.vae.trained import TrainedVae
from invkit.vae.vae import VAE

OPTIONS = {**IMAGE_NOISE, "sampler": "conditional", "samples": 12, "refine": 10}


@pytest.fixture(scope="module")
def place(place, tmp_path_factory):
    return with_vae(place, tmp_path_factory)


@pytest.fixture(scope="module")
def result(place, image):
    said = []
    return invkit.analyze(Small(), "0", image, **OPTIONS, **place, say=said.append), said


def test_draws_reach_certificates_and_the_report(result, tmp_path):
    found, said = result
    trained = [line for line in said if "training it" in line]
    assert len(trained) == 4  # the VAE given f(x), the layer, input, const
    assert sum("given f(x) of" in line for line in trained) == 1
    assert found.raw.shape == (12, 1, 1, 50, 45)
    layer = found.layers[0]
    assert layer.metrics["witnesses"]["count"] == len(layer.witnesses[0].samples) >= 7
    assert layer.provenance["kind"] == found.provenance["sampler"] == "conditional"
    assert {"rmse_hu", "bands", "lost", "f_x", "pca"} <= layer.provenance["completeness"].keys()
    assert any("The sampler conditional is experimental" in line for line in found.warnings)
    page = found.report(tmp_path / "report.html").read_text()
    assert "of its samples are certified at the same tolerance" in page


def test_likelihoods_of_layer_and_controls_are_of_one_code(result):
    nll = result[0].metrics["nll"]
    value = {name: one["value"] if isinstance(one, dict) else one for name, one in nll.items()}
    assert value["floor"] < min(value["input"], value["layer"])
    # The layer is injective, so it tells the code as x itself does, but for the noise of two trainings of 60 steps.
    whole = value["const"] - value["floor"]
    assert abs(value["layer"] - value["input"]) < 0.01 * whole
    assert value["const"] - max(value["input"], value["layer"]) > 0.5 * whole
    retained = result[0].retained.retained[0].value
    assert 0 < retained < 1


def test_parts_are_found_again_and_sample_k_stays_what_it_was(result, place, image):
    said = []
    options = OPTIONS | {"samples": 5, "refine": "none"}
    again = invkit.analyze(Small(), "0", image, **options, **place, say=said.append)
    assert not [line for line in said if "training it" in line]
    assert torch.equal(again.raw, result[0].raw[:5])


@pytest.mark.slow
def test_high_dose_partners_have_codes_too(place, image):
    options = OPTIONS | {"samples": 3, "refine": "none", "domain": "high"}
    found = invkit.analyze(Small(), "0", image, **options, **place)
    assert found.raw.shape == (3, 1, 1, 50, 45)
    assert torch.isfinite(found.raw).all()


@pytest.fixture(scope="module")
def request_():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = ConditionalVae(ConditionalConfig.tiny()).eval().requires_grad_(False)
    code = TrainedConditional(vae, torch.zeros(2, 1, 32, 32), {"held_out": {}}, "f" * 64)
    split = invkit.Split(invkit.load(Small()), "0")
    plain = TrainedVae(VAE(vae_preset("tiny")), None, {}, "0")
    return ConditionalRequest(split, plain, load_slices(["phantoms:12"]), TINY, "low", 0, code=code)


def test_its_settings_decide_no_other_part(request_):
    plain = LayerRequest(request_.split, request_.vae, request_.slices, TINY)
    other = TINY.model_copy(update={"samplers": {"conditional": {"rows": 7}}})
    assert plain.describe() == replace(plain, config=other).describe()
    assert "conditional" not in plain.describe()["config"]
    assert request_.describe()["vae"] == request_.code.sha256
    assert request_.describe()["kind"] != plain.describe()["kind"]
    assert replace(request_, config=other).describe()["config"]["rows"] == 7
    assert request_.config.cinn.d == request_.code.vae.d


def test_each_denoiser_has_a_vae_of_its_own(request_):
    first, second = (
        ConditionalVaeRequest(
            "low", request_.slices, ConditionalConfig.tiny(), denoiser=invkit.load(Small(seed))
        )
        for seed in (3, 4)
    )
    # How many codes a layer's flow is trained on decides no VAE.
    fewer = ConditionalConfig.tiny().model_copy(update={"rows": 7})
    assert first.describe() == replace(first, config=fewer).describe()
    assert Store.key(first.describe()) != Store.key(second.describe())
    assert Store.key(first.describe()) != Store.key(replace(first, domain="high").describe())


def test_codes_and_patients_are_the_same_for_const_and_for_a_layer(request_, tmp_path):
    found = []
    for layer in ("0", "const"):
        split = invkit.Split(request_.split.denoiser, layer)
        training = ConditionalTraining(replace(request_, split=split), tmp_path, None)
        x = training.samplers["test"].batch(0, 4).x
        regressor = Regressor(split.phi(x), (32, 32)).eval()
        regressor.calibrate([(split.phi(x), x)])
        found.append(training.coded(split, x, x, regressor))
    layer, const = found
    for index in range(2):
        torch.testing.assert_close(layer[index], const[index], atol=1e-3, rtol=1e-4)
    assert not torch.equal(layer[2][0], layer[2][1])
    # The condition of `const` is the same for all.
    torch.testing.assert_close(const[2], const[2][:1].expand_as(const[2]), atol=1e-5, rtol=0)


def test_a_file_for_another_code_is_refused(result, request_, place):
    (path,) = [
        file
        for file in (place["cache"] / "conditional").glob("*.safetensors")
        if '"layer": "0"' in file.with_suffix(".json").read_text()
        and '"domain": "low"' in file.with_suffix(".json").read_text()
    ]
    with pytest.raises(ArtifactError, match="vae"):
        Conditional().read(path, request_)
