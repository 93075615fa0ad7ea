"""The path from an image to certificates in spatial codes, at tiny sizes."""

import math
import tomllib

import pytest
import torch
from invkit_samplers.spatial.code import SpatialConfig, SpatialSettings
from invkit_samplers.spatial.family import Spatial, code_of
from invkit_samplers.wavelet.config import WaveletConfig
from kept_vae import IMAGE_NOISE, with_vae
from small_network import Small
from small_workshop import small_workshop

import invkit
from invkit import ArtifactError
from invkit.parts.preset_list import preset_toml
from invkit.samplers import LayerConfig

OPTIONS = {**IMAGE_NOISE, "samples": 10, "refine": 8}


@pytest.fixture(scope="module")
def place(place, tmp_path_factory):
    return with_vae(place, tmp_path_factory)


@pytest.fixture(scope="module")
def result(place, image):
    said = []
    found = invkit.analyze(Small(), "0", image, sampler="spatial", say=said.append, **OPTIONS, **place)
    return found, said


def test_draws_reach_certificates(result):
    found, said = result
    assert sum("training it" in line for line in said) == 4  # the spatial VAE, the layer, input, const
    assert found.raw.shape == (10, 1, 1, 50, 45)
    layer = found.layers[0]
    (witnesses,) = layer.witnesses
    assert layer.metrics["witnesses"]["count"] == len(witnesses.samples) >= 2
    assert (witnesses.details["distance_before"] >= witnesses.distances).all()
    assert found.provenance["sampler"] == layer.provenance["kind"] == "spatial"
    assert any("The sampler spatial is experimental" in warning for warning in found.warnings)
    kept = layer.provenance["completeness"]
    assert kept["numbers"] == SpatialConfig.tiny().d
    assert 0 < kept["rmse_hu"] < 200
    assert len(kept["lost"]) == 10


def test_likelihoods_are_of_the_code_and_input_is_at_its_floor(result):
    found, _ = result
    nll = found.metrics["nll"]
    value = {name: one["value"] if isinstance(one, dict) else one for name, one in nll.items()}
    # The layer is injective, so it tells the code as x itself does, but for the noise of two trainings.
    whole = value["const"] - value["floor"]
    assert value["floor"] < value["layer"]
    assert value["floor"] - 0.05 < value["input"]
    assert abs(value["layer"] - value["input"]) < 0.01 * whole
    assert max(value["input"], value["layer"]) - value["floor"] < 0.1 * whole


def test_parts_are_found_again_and_sample_k_stays_what_it_was(result, place, image):
    found, _ = result
    said = []
    options = OPTIONS | {"samples": 4, "refine": "none"}
    again = invkit.analyze(Small(), "0", image, sampler="spatial", say=said.append, **options, **place)
    assert not [line for line in said if "training it" in line]
    assert torch.equal(again.raw, found.raw[:4])


def test_high_dose_images_have_a_code_of_their_own(result, place):
    config = OPTIONS["config"].model_copy(update={"samplers": {"spatial": {"vae": {"steps": 2}}}})
    here = small_workshop(place, config)
    split = invkit.Split(Small(), "0")
    Spatial().learn(split, "high", here)
    model = Spatial().find(split, "high", here)
    assert model.vae is code_of("high", here).vae
    assert model.meta["domain"] == "high"
    assert model.meta["code"] == code_of("high", here).sha256
    assert math.isfinite(model.meta["nll"])


def test_a_flow_of_another_code_is_refused(result, place):
    here = small_workshop(place)
    other = small_workshop(
        place,
        OPTIONS["config"].model_copy(update={"samplers": {"spatial": {"vae": {"steps": 3}}}}),
    )
    split = invkit.Split(Small(), "0")
    family = Spatial()
    request, wrong = (family.request(split, "low", one) for one in (here, other))
    path, _ = here.store.find("spatial", here.store.key(request.describe()))
    assert family.read(path, request).meta["code"] == request.code.sha256
    with pytest.raises(ArtifactError, match="its code differ"):
        family.read(path, wrong)


def test_settings_change_no_key_of_a_cinn_and_can_be_written_to_a_preset(place, tmp_path):
    default, other = LayerConfig(), LayerConfig(samplers={"spatial": {"vae": {"channels": 16}, "rows": 64}})
    assert default.model_dump() == other.model_dump()
    stated = tomllib.loads(preset_toml(place["host"], "cinn", "tiny"))
    assert stated["samplers_preset"] == "tiny"
    assert other.settings("spatial", SpatialSettings).vae == SpatialConfig(channels=16)
    path = tmp_path / "mine.toml"
    path.write_text(preset_toml(place["host"], "cinn", "tiny"))
    assert LayerConfig.preset(str(path)) == LayerConfig.preset("tiny")
    assert WaveletConfig.of_codes().dequantisation == 0
