import argparse
import dataclasses
import hashlib
import importlib.resources
import json
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import torch
from invkit_chen2017 import PREPROCESSING, invkit_denoisers
from invkit_chen2017.network import Chen2017
from safetensors import safe_open
from torch import nn
from torch.nn import functional

import invkit
from invkit import ArtifactError, PluginHost, Split
from invkit.denoisers.loaded import load_denoiser
from invkit.denoisers.recipe import packaged_text
from invkit.denoisers.weights.install import install
from invkit.denoisers.weights.installed import with_installed
from invkit.testing import check_denoiser

SPECS = {spec.name: spec for spec in invkit_denoisers()}
BUNDLED = [(spec, weights) for spec in SPECS.values() for weights in spec.weights]


def image(height: int = 40, width: int = 48) -> torch.Tensor:
    return torch.randn(2, 1, height, width, generator=torch.Generator().manual_seed(0)) * 300


def test_the_plugin_is_found_by_its_entry_point():
    (point,) = [point for point in entry_points(group="invkit") if point.name == "chen2017"]
    assert point.dist.name == "invkit-chen2017"
    host = PluginHost()
    (report,) = [report for report in host.reports() if report.name == "chen2017"]
    assert (report.status, report.distribution) == ("ok", "invkit-chen2017")
    assert set(report.provides["denoisers"]) == set(SPECS) == {"chen2017", "chen2017-k3"}


@pytest.mark.parametrize("name", SPECS)
def test_it_keeps_the_contract(name):
    report = check_denoiser(SPECS[name])
    assert {check.name for check in report.checks} >= {f"layer {key} can be split" for key in "135"}


# Convolution by convolution: 81 * 64 + 64, 9 * 64 * 32 + 32, k * k * 32 + 1 (Chen et al. 2017, section 2).
@pytest.mark.parametrize(("kernel", "count"), [(5, 5248 + 18464 + 801), (3, 5248 + 18464 + 289)])
def test_the_sizes_are_the_papers(kernel, count):
    network = Chen2017(last_kernel=kernel)
    assert sum(parameter.numel() for parameter in network.parameters()) == count
    shapes = [tuple(module.weight.shape) for module in network if isinstance(module, nn.Conv2d)]
    assert shapes == [(64, 1, 9, 9), (32, 64, 3, 3), (1, 32, kernel, kernel)]
    kinds = [type(module) for module in network]
    assert kinds == [nn.Conv2d, nn.ReLU, nn.Conv2d, nn.ReLU, nn.Conv2d]
    assert all(module.stride == (1, 1) and module.padding_mode == "reflect" for module in list(network)[::2])
    assert all(module.inplace for module in list(network)[1::2])


@pytest.mark.parametrize(("name", "kernel"), [("chen2017", 5), ("chen2017-k3", 3)])
def test_each_name_builds_its_last_kernel(name, kernel):
    assert SPECS[name].build().conv3.kernel_size == (kernel, kernel)
    assert f"{kernel}x{kernel}" in SPECS[name].layers[-1].note


@pytest.mark.parametrize("name", SPECS)
def test_keys_count_the_relus_and_name_the_convolutions(name):
    """The slides count layers with their ReLUs: 1, 3 and 5 are the convolutions."""
    spec = SPECS[name]
    network = spec.build()
    assert [layer.key for layer in spec.layers] == ["1", "3", "5"]
    for layer in spec.layers:
        module = network.get_submodule(layer.module)
        assert module is list(network.children())[int(layer.key) - 1]
        assert isinstance(module, nn.Conv2d)


def test_z_is_the_convolutions_output_before_its_relu():
    loaded = load_denoiser(SPECS["chen2017"], untrained_seed=0)
    x = image()
    network = loaded.network
    h = (x - (481.4542 - 1024)) / 502.1851
    channels = {"1": 64, "3": 32, "5": 1}
    for key, layer in (("1", network.conv1), ("3", network.conv2), ("5", network.conv3)):
        padded = functional.pad(h, (layer.kernel_size[0] // 2,) * 4, mode="reflect")
        h = functional.conv2d(padded, layer.weight, layer.bias)
        z = Split(loaded, key).phi(x)
        assert z.shape == (2, channels[key], 40, 48)
        torch.testing.assert_close(z, h.detach(), rtol=1e-4, atol=1e-5)
        assert bool((z < 0).any())
        h = h.relu()
    torch.testing.assert_close(loaded(x), z * 502.1851 + 481.4542 - 1024, rtol=1e-4, atol=1e-2)


def test_preprocessing_is_the_benchmarks_in_hu():
    """The LDCT benchmark takes (HU + 1024 - 481.4542) / 502.1851."""
    x = image()
    torch.testing.assert_close(PREPROCESSING.normalise(x), (x + 1024 - 481.4542) / 502.1851)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_the_recipe_is_mean_squared_error_on_patches_of_33(spec):
    recipe = spec.recipe
    assert (recipe.patch, recipe.mse, recipe.mse_steps) == (33, 1.0, 0)
    assert (recipe.lr, recipe.lr_end, recipe.betas) == (2e-3, 0.005, (0.9, 0.999))
    for name in ("default", *recipe.presets):
        preset = recipe.preset(name)
        assert preset.adversarial is None
        assert preset.perceptual is None
        assert preset.mse == 1.0
    assert recipe.steps == 12_000


def test_the_files_of_the_presets_hold_every_field_and_the_published_figures():
    recipe = SPECS["chen2017"].recipe
    fields = {field.name for field in dataclasses.fields(recipe)} - {"presets", "adversarial", "perceptual"}
    for name in ("default", "paper", "ldct-benchmark"):
        assert set(tomllib.loads(packaged_text(recipe.presets[name]))) == fields
    assert recipe.preset("default").describe() == recipe.describe()
    paper, benchmark = recipe.preset("paper"), recipe.preset("ldct-benchmark")
    assert (paper.patch, paper.lr, paper.lr * paper.lr_end) == (33, 1e-3, 1e-4)
    assert (benchmark.patch, benchmark.batch, benchmark.steps) == (92, 68, 86188)
    assert benchmark.lr == pytest.approx(1.58e-4, rel=3e-3)
    assert (benchmark.betas, benchmark.lr_end) == ((0.9, 0.999), 1.0)


def test_the_description_names_the_paper():
    assert all("1610.00321" in spec.citation and spec.description for spec in SPECS.values())


def test_weights_are_bundled():
    assert {spec.name for spec, weights in BUNDLED if weights.tag == "bundled"} == {"chen2017", "chen2017-k3"}


@pytest.mark.parametrize(("spec", "weights"), BUNDLED, ids=lambda item: getattr(item, "name", None))
def test_bundled_weights_are_what_they_say(spec, weights):
    package, _, inside = weights.source.removeprefix("package:").partition("/")
    path = Path(str(importlib.resources.files(package))) / inside
    assert hashlib.sha256(path.read_bytes()).hexdigest() == weights.sha256
    with safe_open(path, "pt") as file:
        provenance = json.loads(file.metadata()["invkit"])
    assert provenance["kind"] == "denoiser"
    meta = provenance["meta"]
    assert meta["name"] == spec.name
    assert meta["preprocessing"] == spec.preprocessing.describe()
    for field in ("recipe", "data", "dose", "seed", "steps", "trained_on", "invkit", "torch", "key"):
        assert meta[field] is not None
    assert meta["held_out"]["rmse_denoised_hu"] < 0.8 * meta["held_out"]["rmse_low_dose_hu"]
    assert weights.trained_on
    assert weights.license
    loaded = load_denoiser(spec, weights.tag)
    x = image()
    assert torch.isfinite(loaded(x)).all()
    assert loaded.sha256 != load_denoiser(spec, untrained_seed=0).sha256


class Cnn10(nn.Module):
    """The network with the names of the LDCT benchmark's `cnn10`: a list of layers, padded with zeros."""

    def __init__(self):
        super().__init__()
        sizes = [(1, 64, 9), (64, 32, 3), (32, 1, 5)]
        convolutions = [nn.Conv2d(a, b, k, padding=k // 2) for a, b, k in sizes]
        self.layers = nn.ModuleList([convolutions[0], nn.ReLU(), convolutions[1], nn.ReLU(), convolutions[2]])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def test_it_takes_the_ldct_benchmarks_cnn10(tmp_path):
    """A checkpoint as the benchmark writes it gives the function that it has there, borders included."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        theirs = Cnn10()
    checkpoint = {
        "args": argparse.Namespace(lr=1e-4),
        "iteration": 9,
        "model_state_dict": theirs.state_dict(),
    }
    torch.save(checkpoint, tmp_path / "cnn10.pt")
    record, _ = install(SPECS["chen2017"], str(tmp_path / "cnn10.pt"), "ldct", folder=tmp_path / "models")
    assert record.meta["upstream"] == "ldct-benchmark"
    loaded = load_denoiser(with_installed(SPECS["chen2017"], tmp_path / "models"), "ldct")
    x = image()
    with torch.no_grad():
        expected = theirs((x + 1024 - 481.4542) / 502.1851) * 502.1851 + 481.4542 - 1024
    torch.testing.assert_close(loaded(x), expected, rtol=1e-5, atol=1e-2)
    assert Split(loaded, "3").check(x).exact
    with pytest.raises(
        ArtifactError, match=r"contains no weights of chen2017-k3: its names are layers\.0\.bias"
    ):
        install(SPECS["chen2017-k3"], str(tmp_path / "cnn10.pt"), "ldct", folder=tmp_path / "models")


def test_it_loads_by_name():
    loaded = invkit.load("chen2017-k3")
    assert loaded.name == "chen2017-k3"
    assert loaded(image()).shape == image().shape
