"""The residual sampler: a code that loses nothing, draws that are functions of their seed, a file of its own."""

from dataclasses import replace

import pytest
import torch
from invkit_samplers.residual.family import Residual
from invkit_samplers.residual.model import base_of
from invkit_samplers.residual.tile_code import TileCode
from kept_vae import with_vae
from small_network import TINY_OPTIONS
from small_workshop import small_workshop

import invkit
from invkit import ArtifactError, ConfigError
from invkit.flow.config import CinnConfig
from invkit.regressor.regressor import RegressorConfig
from invkit.samplers import LayerConfig, LayerRequest


def images(n, height, width, seed=0):
    return 50 * torch.randn(n, 1, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("d", [16, 64, 256])
def test_a_tiles_code_is_the_orthonormal_cosine_transform(d):
    code = TileCode(d)
    tiles = images(5, code.side, code.side)
    codes = code.encode(tiles)
    torch.testing.assert_close(code.decode(codes), tiles, atol=1e-3, rtol=0)
    torch.testing.assert_close(30 * codes.norm(dim=1), tiles.flatten(1).norm(dim=1))
    flat = code.encode(torch.full((1, 1, code.side, code.side), 30.0))
    torch.testing.assert_close(flat, code.side * torch.eye(d)[:1], atol=1e-4, rtol=0)


def test_conditions_hold_the_expected_residual_of_their_own_tile():
    code = TileCode(16)
    base, residual = images(2, 20, 24), images(2, 20, 24, seed=1)
    corners = torch.tensor([[0, 20], [7, 3]])
    condition = code.condition(base, base + residual, corners)
    assert condition.shape == (2, code.inputs)
    expected = code.encode(torch.stack([residual[0, :, :4, 20:], residual[1, :, 7:11, 3:7]]))
    torch.testing.assert_close(condition[:, :16], expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        condition, code.condition(base + 300, base + residual + 300, corners), atol=1e-3, rtol=0
    )


@pytest.mark.parametrize("d", [0, 9, 128])
def test_other_lengths_are_no_tile(d):
    with pytest.raises(ConfigError, match="256"):
        TileCode(d)


CONFIG = LayerConfig(
    regressor=RegressorConfig(steps=4),
    cinn=CinnConfig(d=16, blocks=2, hidden=16, steps=12, evaluate_every=6, batch=32),
    rows=256,
    held_out=128,
    pairs=8,
)


@pytest.fixture(scope="module")
def place(place, tmp_path_factory):
    return with_vae(place, tmp_path_factory)


@pytest.fixture(scope="module")
def workshop(place):
    return small_workshop(place, CONFIG)


@pytest.fixture(scope="module")
def model(network, workshop):
    split = invkit.Split(invkit.load(network), "0")
    assert Residual().find(split, "low", workshop) is None
    Residual().learn(split, "low", workshop)
    return Residual().find(split, "low", workshop)


def test_a_trained_flow_is_kept_under_a_key_of_its_own(model, workshop, place):
    family, key = Residual(), workshop.store.key
    assert family.find(model.split, "low", workshop).sha256 == model.sha256
    request = family.request(model.split, "low", workshop)
    assert key(LayerRequest.of(model.split, "low", workshop).describe()) != key(request.describe())
    # The VAE of flat codes decides nothing.
    assert replace(request, vae=replace(request.vae, sha256="0")).describe() == request.describe()
    another = small_workshop(place, CONFIG, seed=1)
    assert family.find(model.split, "low", another) is None
    path = workshop.store.path("residual", key(request.describe()))
    with pytest.raises(ArtifactError, match="seed"):
        family.read(path, family.request(model.split, "low", another))
    assert len(model.nll_rows) == len(model.patients) == len(model.floor_rows) == 128
    assert torch.isfinite(model.nll_rows).all()
    assert model.meta["nll"] == pytest.approx(float(model.nll_rows.mean()))


def test_draws_are_images_around_psi_of_z_and_functions_of_their_index(model, network):
    x = images(1, 22, 19)
    z = model.split.phi(x)
    draws = model.prepare(z, (22, 19))
    whole = draws(0, 0, range(6))
    assert whole.shape == (6, 1, 22, 19)
    torch.testing.assert_close(draws(0, 0, [2, 3]), whole[2:4], atol=1e-3, rtol=1e-4)
    assert not torch.equal(draws(1, 0, range(6)), whole)
    with torch.no_grad():
        torch.testing.assert_close(base_of(model.split, z, (22, 19)), network(x), atol=1e-3, rtol=1e-5)


def test_an_image_swapped_with_itself_is_itself(model):
    x = images(1, 22, 19)
    z = model.split.phi(x)
    torch.testing.assert_close(model.swap(x, z, z), x, atol=0.05, rtol=0)
    assert torch.equal(model.reconstruct(x), x)


def test_const_has_no_output_to_count_from(network):
    split = invkit.Split(invkit.load(network), "const")
    x = images(2, 16, 16)
    assert torch.equal(base_of(split, split.phi(x), (16, 16)), torch.zeros(2, 1, 16, 16))


@pytest.mark.slow
def test_a_whole_analysis_in_residual_coordinates(network, place, tmp_path):
    said = []
    result = invkit.analyze(
        network,
        "0",
        images(1, 32, 32)[0, 0].numpy(),
        samples=12,
        refine=10,
        sampler="residual",
        cache=tmp_path,
        host=place["host"],
        **TINY_OPTIONS,
        say=said.append,
    )
    assert sum("flow of residuals" in line for line in said) == 3  # the layer and two controls
    assert result.to_json()["sampler"] == result.provenance["sampler"] == "residual"
    proof = result.metrics["witnesses"]
    assert proof["count"] == len(result.layers[0].witnesses[0].samples) >= 2
    assert proof["refined"] == 8
