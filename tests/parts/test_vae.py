"""A VAE from patches to a file: its provenance, the figures of what is stored, and files that are refused."""

import pytest
import torch
from blobs import Blobs

from invkit import artifacts
from invkit.data.slices import load_slices
from invkit.errors import ArtifactError
from invkit.parts.preset_file import vae_preset
from invkit.parts.store import Store
from invkit.parts.vae import VaeRequest, learn_vae
from invkit.plugins.manager import PluginHost
from invkit.vae.held_out import held_out_figures
from invkit.vae.trained import KIND, load_vae


class Request(VaeRequest):
    """A request whose patches are blobs."""

    def sampler(self, part):
        return Blobs(0 if part == "train" else 1)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    config = vae_preset("tiny", adversarial_from=0.5, pca_patches=64)
    request = Request("low", load_slices(["phantoms:3"]), config, seed=4)
    return learn_vae(request, Store(PluginHost(installed=False), tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def trained(path):
    return load_vae(path)


@pytest.fixture
def changed(path, tmp_path):
    """A function that writes a copy with other tensors or provenance."""
    stored = artifacts.load(path, kind=KIND)

    def write(tensors=lambda known: known, **meta):
        copy = tmp_path / "copy.safetensors"
        artifacts.save(copy, tensors(stored.tensors), kind=KIND, meta={**stored.meta, **meta})
        return copy

    return write


def test_provenance_and_figures_are_of_what_is_stored(trained):
    meta = trained.meta
    assert meta["domain"] == "low"
    assert meta["seed"] == 4
    assert meta["steps"] == 20
    assert meta["data"] == {"fingerprint": "blobs0", "description": "blobs", "dose": 0.25, "seed": 0}
    assert meta["held_out"]["description"] == "blobs"
    assert meta["held_out"]["pca"]["components"] == 16
    again = held_out_figures(trained.vae, Blobs(1), "low", 64)
    assert again["rmse_hu"] == pytest.approx(meta["held_out"]["rmse_hu"], rel=1e-6)
    assert trained.critic is not None
    assert not any(parameter.requires_grad for parameter in trained.vae.parameters())


def test_a_request_that_is_answered_is_trained_once(path):
    store = Store(PluginHost(installed=False), path.parents[1])
    request = Request("low", load_slices(["phantoms:3"]), load_vae(path).vae.config, seed=4)
    assert store.find(KIND, store.key(request.describe())) == (path, None)
    before = path.stat().st_mtime_ns
    assert learn_vae(request, store) == path
    assert path.stat().st_mtime_ns == before


def test_a_changed_bit_is_refused(changed):
    path = changed()
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ArtifactError, match="was changed"):
        load_vae(path)


def test_critic_may_be_left_out(changed, trained):
    path = changed(
        lambda known: {name: value for name, value in known.items() if not name.startswith("critic.")}
    )
    found = load_vae(path)
    x = Blobs(7).batch(0, 3).x
    assert found.critic is None
    assert torch.equal(found.vae.reconstruct(x), trained.vae.reconstruct(x))


@pytest.mark.parametrize(
    ("change", "message"), [({"width": 8}, "does not fit"), ({"depth": 8}, "does not describe")]
)
def test_file_that_contradicts_its_config_is_refused(changed, trained, change, message):
    path = changed(config={**trained.meta["config"], **change})
    with pytest.raises(ArtifactError, match=message):
        load_vae(path)


def test_weights_that_are_not_finite_are_refused(changed):
    name = "vae.decoder.head.bias"
    path = changed(lambda known: {**known, name: torch.full_like(known[name], torch.nan)})
    with pytest.raises(ArtifactError, match="not finite"):
        load_vae(path)
