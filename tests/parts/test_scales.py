"""s_Phi and eta are what their definitions say, and are measured once."""

import pytest
import torch
from torch import nn

import invkit
from invkit.data.slices import load_slices
from invkit.errors import ArtifactError
from invkit.parts import scales
from invkit.parts.scales import ScaleRequest, find_scales, layer_scales, scale_sampler
from invkit.parts.store import Store
from invkit.plugins.manager import PluginHost


@pytest.fixture(scope="module")
def slices():
    return load_slices(["phantoms:12"])


def double():
    net = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.constant_(net.weight, 2.0)
    return invkit.Split(invkit.load(net), "output")


def test_they_are_the_differences_of_patches_and_of_two_scans(slices):
    sampler = scale_sampler(slices, dose=0.25, seed=3, size=48)
    scale, eta = layer_scales(double(), sampler, pairs=64, seed=3, device="cpu")
    batch = sampler.batch(0, 32)
    images = batch.x.double().flatten(1)
    pairs = torch.pdist(images).square().mean().div(images.shape[1]).sqrt()
    assert scale == pytest.approx(2 * float(pairs), rel=0.2)
    # Two draws of unit texture differ by sqrt(2), of each patch's own strength, doubled by the layer.
    noise = 2 * 2**0.5 * float(batch.noise.double().square().mean().sqrt())
    assert eta == pytest.approx(noise / scale, rel=0.05)


def test_a_layer_that_is_always_the_same_has_no_length(slices):
    split = invkit.Split(invkit.load(nn.Conv2d(1, 1, 1)), "const")
    sampler = scale_sampler(slices, dose=0.25, seed=0, size=32)
    assert layer_scales(split, sampler, pairs=4, seed=0, device="cpu") == (1.0, 0.0)


def test_they_are_measured_once_and_a_damaged_file_is_refused(slices, tmp_path, monkeypatch):
    monkeypatch.setattr(scales, "PATCH", 32)
    store = Store(PluginHost(installed=False), tmp_path)
    request = ScaleRequest(double(), slices, pairs=8, dose=0.25)
    first = find_scales(request, store, device="cpu")
    monkeypatch.setattr(scales, "layer_scales", None)
    assert find_scales(request, store, device="cpu") == first
    path = store.path("scale", store.key(request.describe()))
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    with pytest.raises(ArtifactError):
        find_scales(request, store, device="cpu")
