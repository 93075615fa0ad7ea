import argparse
import dataclasses
import hashlib
import importlib.resources
import itertools
import json
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import torch
from invkit_yang2018 import PREPROCESSING, invkit_denoisers
from invkit_yang2018.network import Critic, Yang2018
from invkit_yang2018.recipe import RECIPE
from safetensors import safe_open
from torch import nn
from torch.nn import functional

import invkit
from invkit import PluginHost, Split
from invkit.data.patches import PatchSampler
from invkit.data.slices import load_slices
from invkit.denoisers.loaded import load_denoiser
from invkit.denoisers.recipe import packaged_text
from invkit.denoisers.task import DenoiserTask
from invkit.denoisers.weights.install import install
from invkit.denoisers.weights.installed import with_installed
from invkit.testing import check_denoiser
from invkit.training.engine import Shard

(SPEC,) = invkit_denoisers()


def image(height: int = 40, width: int = 48) -> torch.Tensor:
    return torch.randn(2, 1, height, width, generator=torch.Generator().manual_seed(0)) * 300


def test_the_plugin_is_found_by_its_entry_point():
    (point,) = [point for point in entry_points(group="invkit") if point.name == "yang2018"]
    assert point.dist.name == "invkit-yang2018"
    (report,) = [report for report in PluginHost().reports() if report.name == "yang2018"]
    assert (report.status, report.distribution) == ("ok", "invkit-yang2018")
    assert report.provides["denoisers"] == ("yang2018",)


def test_it_keeps_the_contract():
    report = check_denoiser(SPEC)
    assert {check.name for check in report.checks} >= {f"layer {key} can be split" for key in range(1, 9)}


def test_the_generators_sizes_are_the_papers():
    network = Yang2018()
    # 9 * 32 + 32, six times 9 * 32 * 32 + 32, 9 * 32 + 1 (Yang et al. 2018, section II-C).
    assert sum(parameter.numel() for parameter in network.parameters()) == 320 + 6 * 9248 + 289
    shapes = [tuple(module.weight.shape) for module in network if isinstance(module, nn.Conv2d)]
    assert shapes == [(32, 1, 3, 3), *[(32, 32, 3, 3)] * 6, (1, 32, 3, 3)]
    kinds = [type(module) for module in network]
    assert kinds == [*[nn.Conv2d, nn.ReLU] * 7, nn.Conv2d]
    assert all(module.stride == (1, 1) and module.padding == (1, 1) for module in list(network)[::2])
    assert all(module.inplace for module in list(network)[1::2])


def test_the_critics_sizes_are_the_papers():
    critic = Critic()
    convolutions = [module for module in critic.convolutions if isinstance(module, nn.Conv2d)]
    assert [(c.out_channels, c.stride[0]) for c in convolutions] == [
        (64, 1),
        (64, 2),
        (128, 1),
        (128, 2),
        (256, 1),
        (256, 2),
    ]
    assert all(c.kernel_size == (3, 3) for c in convolutions)
    widths = [1, 64, 64, 128, 128, 256, 256]
    expected = sum(9 * a * b + b for a, b in itertools.pairwise(widths))
    expected += 256 * 8 * 8 * 1024 + 1024 + 1024 + 1
    assert sum(parameter.numel() for parameter in critic.parameters()) == expected
    slopes = {m.negative_slope for m in critic.modules() if isinstance(m, nn.LeakyReLU)}
    assert slopes == {0.2}
    # No normalisation and no sigmoid: a Wasserstein critic judges each image alone, on an open scale.
    assert {type(m) for m in critic.modules()} == {Critic, nn.Sequential, nn.Conv2d, nn.LeakyReLU, nn.Linear}


@pytest.mark.parametrize("patch", [16, 33, 64])
def test_the_critic_gives_one_score_for_each_patch_alone(patch):
    critic = Critic(patch)
    x = torch.randn(3, 1, patch, patch, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        scores = critic(x)
        assert scores.shape == (3, 1)
        torch.testing.assert_close(critic(x[1:2]), scores[1:2], rtol=1e-4, atol=1e-6)


def test_keys_count_the_convolutions():
    """The slides count Yang's layers without their ReLUs: 1 to 8 are the convolutions."""
    network = SPEC.build()
    convolutions = [module for module in network if isinstance(module, nn.Conv2d)]
    assert [layer.key for layer in SPEC.layers] == [str(key) for key in range(1, 9)]
    for layer in SPEC.layers:
        assert network.get_submodule(layer.module) is convolutions[int(layer.key) - 1]


def test_z_is_the_convolutions_output_before_its_relu():
    loaded = load_denoiser(SPEC, untrained_seed=0)
    x = image()
    h = (x - (481.4542 - 1024)) / 502.1851
    convolutions = [module for module in loaded.network if isinstance(module, nn.Conv2d)]
    for key, layer in enumerate(convolutions, start=1):
        h = functional.conv2d(h, layer.weight, layer.bias, padding=1)
        z = Split(loaded, str(key)).phi(x)
        assert z.shape == (2, 1 if key == 8 else 32, 40, 48)
        torch.testing.assert_close(z, h.detach(), rtol=1e-4, atol=1e-5)
        h = h.relu()
        if key < 8:
            assert bool((z < 0).any())
    torch.testing.assert_close(loaded(x), z * 502.1851 + 481.4542 - 1024, rtol=1e-4, atol=1e-2)


def test_preprocessing_is_the_benchmarks_in_hu():
    """The LDCT benchmark takes (HU + 1024 - 481.4542) / 502.1851."""
    x = image()
    torch.testing.assert_close(PREPROCESSING.normalise(x), (x + 1024 - 481.4542) / 502.1851)


def test_the_recipe_of_the_paper():
    paper = RECIPE.preset("paper")
    assert (paper.patch, paper.batch, paper.lr, paper.betas) == (64, 128, 1e-5, (0.5, 0.9))
    assert (paper.mse, paper.mse_steps) == (0.0, 0)
    assert (paper.adversarial.gradient_penalty, paper.adversarial.critic_steps) == (10.0, 4)
    assert (paper.adversarial.weight, paper.adversarial.lr) == (1.0, 1e-5)
    assert (paper.perceptual.weight, paper.perceptual.backbone) == (0.1, "vgg19")


def test_presets_change_what_they_say_and_keep_the_losses():
    for name in ("default", "paper", "ldct-benchmark"):
        preset = RECIPE.preset(name)
        assert preset.adversarial.gradient_penalty == 10.0
        assert preset.adversarial.critic is RECIPE.adversarial.critic
        assert preset.mse == 0.0
    assert (RECIPE.perceptual.backbone, RECIPE.patch) == ("hed-vgg16", 64)


def test_the_files_of_the_presets_hold_every_field_and_the_published_figures():
    fields = {field.name for field in dataclasses.fields(RECIPE)} - {"presets"}
    for name in ("default", "paper", "ldct-benchmark"):
        values = tomllib.loads(packaged_text(RECIPE.presets[name]))
        assert set(values) == fields
        assert set(values["adversarial"]) == {f.name for f in dataclasses.fields(RECIPE.adversarial)} - {
            "critic"
        }
        assert set(values["perceptual"]) == {f.name for f in dataclasses.fields(RECIPE.perceptual)}
    assert RECIPE.preset("default").describe() == RECIPE.describe()
    benchmark = RECIPE.preset("ldct-benchmark")
    assert (benchmark.patch, benchmark.batch, benchmark.steps) == (77, 77, 67306)
    assert benchmark.lr == benchmark.adversarial.lr == pytest.approx(7.1e-5, rel=1e-3)
    assert benchmark.perceptual.weight == pytest.approx(0.689, rel=1e-3)
    assert (benchmark.adversarial.critic_steps, benchmark.perceptual.backbone) == (1, "vgg19")


def test_the_critic_has_the_size_of_the_recipes_patches():
    recipe = RECIPE.preset("tiny").changed({"patch": 33})
    sampler = PatchSampler(load_slices(["phantoms:3"], size=64), recipe.patch, seed=0)
    task = DenoiserTask(SPEC.build(), SPEC.preprocessing, recipe, sampler, sampler, seed=0)
    assert task.critic.linear[0].in_features == 256 * 5 * 5
    task.phases(recipe.mse_steps)
    assert bool(task.loss("critic", recipe.mse_steps, Shard(0, 1))[0].isfinite())


def test_a_tiny_training_descends_in_both_phases():
    slices = load_slices(["phantoms:3"], size=64)
    recipe = RECIPE.preset("tiny")
    sampler = PatchSampler(slices, recipe.patch, seed=0)
    task = DenoiserTask(SPEC.build(), SPEC.preprocessing, recipe, sampler, sampler, seed=0)
    assert list(task.phases(0)) == ["denoiser"]
    assert list(task.phases(recipe.mse_steps)) == ["critic", "denoiser"]
    for phase in task.phases(recipe.mse_steps):
        loss, figures = task.loss(phase, recipe.mse_steps, Shard(0, 1))
        loss.backward(inputs=list(task.modules[phase].parameters()))
        assert bool(loss.isfinite())
        gradients = [parameter.grad for parameter in task.modules[phase].parameters()]
        assert all(bool(gradient.isfinite().all()) for gradient in gradients)
        assert any(bool((gradient != 0).any()) for gradient in gradients)
        assert figures


def test_the_description_names_the_paper():
    assert "1708.00961" in SPEC.citation
    assert SPEC.description


def test_weights_are_bundled():
    assert [weights.tag for weights in SPEC.weights] == ["bundled"]


@pytest.mark.parametrize("weights", SPEC.weights, ids=lambda weights: weights.tag)
def test_bundled_weights_are_what_they_say(weights):
    package, _, inside = weights.source.removeprefix("package:").partition("/")
    path = Path(str(importlib.resources.files(package))) / inside
    assert hashlib.sha256(path.read_bytes()).hexdigest() == weights.sha256
    with safe_open(path, "pt") as file:
        provenance = json.loads(file.metadata()["invkit"])
    assert provenance["kind"] == "denoiser"
    meta = provenance["meta"]
    assert meta["name"] == SPEC.name
    assert meta["preprocessing"] == SPEC.preprocessing.describe()
    for field in ("recipe", "data", "dose", "seed", "steps", "trained_on", "invkit", "torch", "key"):
        assert meta[field] is not None
    assert meta["held_out"]["rmse_denoised_hu"] < meta["held_out"]["rmse_low_dose_hu"]
    assert weights.trained_on
    assert weights.license
    loaded = load_denoiser(SPEC, weights.tag)
    assert torch.isfinite(loaded(image())).all()
    assert loaded.sha256 != load_denoiser(SPEC, untrained_seed=0).sha256


class WganVgg(nn.Module):
    """The generator with the names of the LDCT benchmark's `wganvgg`."""

    def __init__(self):
        super().__init__()
        layers = []
        for k in range(8):
            layers += [nn.Conv2d(1 if k == 0 else 32, 1 if k == 7 else 32, 3, 1, 1), nn.ReLU()]
        self.net = nn.Sequential(*layers[:-1])

    def forward(self, x):
        return self.net(x)


def test_it_takes_the_ldct_benchmarks_wganvgg(tmp_path):
    """A checkpoint as the benchmark writes it gives the function that it has there."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        theirs = WganVgg()
    checkpoint = {
        "args": argparse.Namespace(lr=1e-4),
        "iteration": 9,
        "model_state_dict": theirs.state_dict(),
    }
    torch.save(checkpoint, tmp_path / "wganvgg.pt")
    record, _ = install(SPEC, str(tmp_path / "wganvgg.pt"), "ldct", folder=tmp_path / "models")
    assert record.meta["upstream"] == "ldct-benchmark"
    loaded = load_denoiser(with_installed(SPEC, tmp_path / "models"), "ldct")
    x = image()
    with torch.no_grad():
        expected = theirs((x + 1024 - 481.4542) / 502.1851) * 502.1851 + 481.4542 - 1024
    torch.testing.assert_close(loaded(x), expected, rtol=1e-5, atol=1e-2)


def test_it_loads_by_name():
    loaded = invkit.load("yang2018")
    assert loaded.name == "yang2018"
    assert loaded(image()).shape == image().shape
