import dataclasses
import re

import numpy as np
import pytest
import torch
from torch import nn

import invkit
from invkit import artifacts, testing
from invkit.data.slices import SliceSet
from invkit.denoisers.spec import Affine, Denoiser, Layer, Weights
from invkit.errors import PluginError, UnknownNameError
from invkit.plugins.manager import PluginHost
from invkit.plugins.records import Artifact, Metric, Sampler, Source


class Clip:
    """A preprocessing that cannot be undone."""

    def normalise(self, x):
        return x.clamp(-200.0, 200.0) / 200.0

    def denormalise(self, x):
        return x * 200.0

    def describe(self):
        return {"kind": "clip"}


class Skip(nn.Module):
    """A layer that a skip connection goes round."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x):
        return x + self.conv(x)


class Leaky(nn.Module):
    """A network that hangs a new hook on itself at each call."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x):
        self.conv.register_forward_hook(lambda *_: None)
        return self.conv(x)


class Calls(nn.Module):
    """A network that returns what a function makes of its input."""

    def __init__(self, function):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.function = function

    def forward(self, x):
        return self.function(self.conv(x))


def network():
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(4, 1, 1))


GOOD = Denoiser("good", network, Affine(0.0, 1000.0), (Layer("1", module="0"), Layer("2", module="1")))


def raising(x):
    raise ValueError("forward is broken")


def failed(spec):
    return {check.name: check.detail for check in testing.inspect_denoiser(spec).checks if not check.passed}


def test_a_good_denoiser_passes_every_check():
    report = testing.check_denoiser(GOOD)
    assert report.passed
    assert [check.name for check in report.checks] == [
        "builds",
        "preprocessing is invertible",
        "contract on two sizes",
        "layer 1 can be split",
        "layer 2 can be split",
        "no hooks left behind",
    ]


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (raising, "raised ValueError on an input of shape"),
        (lambda x: x[..., 1:], "got shape"),
        (lambda x: x.int(), "torch.int32"),
        (lambda x: (x, x), "got tuple"),
        (lambda x: None, "got NoneType"),
        (lambda x: x + torch.rand(()), "not deterministic"),
        (lambda x: x / 0, "not finite"),
        (lambda x: x.to("meta"), "meta"),
        (lambda x: x if x.shape[-1] == 32 else x[..., :8], "got shape"),
    ],
)
def test_a_network_that_breaks_the_contract_is_named_with_its_shapes(function, reason):
    spec = dataclasses.replace(GOOD, build=lambda: Calls(function), layers=())
    found = failed(spec)
    assert found.keys() == {"contract on two sizes"}
    assert reason in found["contract on two sizes"]
    with pytest.raises(PluginError, match="good breaks the contract: good: contract on two sizes"):
        testing.check_denoiser(spec)


def test_what_cannot_be_built_is_reported():
    found = failed(dataclasses.replace(GOOD, build=lambda: 1 / 0))["builds"]
    assert re.search(r"ZeroDivisionError: division by zero \(tests/test_testing_kit.py, line \d+\)$", found)
    assert "nn.Module" in failed(dataclasses.replace(GOOD, build=lambda: len))["builds"]


def test_a_layer_that_is_missing_is_reported_and_of_others_what_they_are():
    missing = dataclasses.replace(GOOD, layers=(Layer("9", module="nine"),))
    assert "nine" in failed(missing)["layer 9 can be split"]
    skipped = dataclasses.replace(GOOD, build=Skip, layers=(Layer("1", module="conv"),))
    found = {check.name: check.detail for check in testing.inspect_denoiser(skipped).checks}
    assert found["layer 1 can be split"] == "conv, a branch"
    found = {check.name: check.detail for check in testing.inspect_denoiser(GOOD).checks}
    assert found["layer 1 can be split"].endswith(", a cut")


def test_a_preprocessing_that_clips_is_reported():
    found = failed(dataclasses.replace(GOOD, preprocessing=Clip()))
    assert "off by 2,871 HU" in found["preprocessing is invertible"]


@pytest.mark.parametrize("preprocessing", [Affine(-1024.0, 4095.0), Affine(-500.0, 500.0), Affine(0.0, 1.0)])
def test_affine_maps_are_invertible_within_float32(preprocessing):
    assert testing.inverse_error(preprocessing) <= 1e-3


def test_hooks_left_behind_are_reported():
    found = failed(dataclasses.replace(GOOD, build=Leaky, layers=()))
    assert "more than before" in found["no hooks left behind"]


def test_weights_are_read_and_compared_with_their_hash(tmp_path):
    path = tmp_path / "weights.safetensors"
    sha256 = artifacts.save(path, network().state_dict(), kind="denoiser", meta={})
    good = Weights("mine", str(path), sha256, "noise", "CC0-1.0")
    assert failed(dataclasses.replace(GOOD, weights=(good,))) == {}
    bad = dataclasses.replace(good, sha256="0" * 64)
    assert "weights mine" in failed(dataclasses.replace(GOOD, weights=(bad,)))


def test_a_good_metric_passes():
    assert testing.check_metric(Metric("spread", lambda result: float(result.std.mean()))).passed
    assert testing.check_metric(Metric("two", lambda result: {"a": 1, "b": 2.5})).passed


def test_a_metric_is_given_images_of_the_shapes_a_result_has():
    result = testing.sample_result()
    n, b, _, h, w = result.samples.shape
    assert result.raw.shape == (n, b, 1, h, w)
    assert result.x.shape == result.mean.shape == result.std.shape == (b, 1, h, w)
    assert result.layers[0].samples.shape == result.samples.shape
    assert testing.check_metric(Metric("first", lambda result: float(result.layers[0].mean.mean()))).passed


def changing(result):
    result.samples.zero_()
    return 1.0


@pytest.mark.parametrize(
    ("compute", "check", "reason"),
    [
        (lambda result: float("nan"), "gives finite numbers", "must be finite"),
        (lambda result: result.x, "gives finite numbers", "a Tensor of shape (2, 1, 32, 32)"),
        (lambda result: None, "gives finite numbers", "NoneType"),
        (lambda result: {1: 2.0}, "gives finite numbers", "got 1"),
        (lambda result: result.nothing, "gives finite numbers", "nothing"),
        (lambda result: float(torch.rand(())), "gives the same twice", "fixed seed"),
        (changing, "result unchanged", "result.samples"),
    ],
)
def test_a_bad_metric_is_reported(compute, check, reason):
    report = testing.inspect_metric(Metric("bad", compute))
    assert {c.name for c in report.checks if not c.passed} == {check}
    assert reason in report.failed[0]


def test_an_artifact_must_be_what_its_plugin_says(tmp_path):
    path = tmp_path / "vae.safetensors"
    meta = {"domain": "low"}
    sha256 = artifacts.save(path, {"a": torch.zeros(2)}, kind="vae", meta=meta)
    assert testing.inspect_artifact(Artifact("vae", str(path), sha256, meta=meta)).passed
    for wrong in (
        Artifact("cinn", str(path), sha256, meta=meta),
        Artifact("vae", str(path), "0" * 64, meta=meta),
        Artifact("vae", str(path), sha256, meta={"domain": "high"}),
        Artifact("vae", str(tmp_path / "other"), sha256, meta=meta),
    ):
        assert not testing.inspect_artifact(wrong).passed


def test_a_plugin_is_checked_with_all_it_brings(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "import invkit\nfrom torch import nn\n\n"
        "def build():\n    return nn.Conv2d(1, 1, 3, padding=1)\n\n"
        "@invkit.hookimpl\ndef invkit_denoisers():\n"
        "    return [invkit.Denoiser('mine', build, invkit.Affine(0.0, 1.0))]\n\n"
        "@invkit.hookimpl\ndef invkit_metrics():\n"
        "    return [invkit.Metric('nan', lambda result: float('nan'))]\n\n"
        "@invkit.hookimpl\ndef invkit_artifacts():\n"
        "    return [invkit.Artifact('vae', '/nowhere/vae', '0' * 64)]\n"
    )
    report = testing.check_plugin(str(path), host=PluginHost(installed=False))
    assert {check.subject for check in report.checks} == {"mine.py", "mine", "nan", "/nowhere/vae"}
    assert {failure.split(":")[0] for failure in report.failed} == {"nan", "/nowhere/vae"}


def test_an_unknown_plugin_is_an_error():
    with pytest.raises(UnknownNameError, match="no plugin 'buildins'; did you mean 'builtins'"):
        testing.check_plugin("buildins", host=PluginHost(installed=False))


class Noise:
    """A sampler's family whose draws are a function's."""

    def __init__(self, function):
        self.function = function

    def find(self, split, domain, workshop):
        return self

    def learn(self, split, domain, workshop):
        raise AssertionError

    def draws(self, target):
        return lambda seed, image, indices: self.function(target.x, indices)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x, indices: x + torch.tensor([float(k) for k in indices]).view(-1, 1, 1, 1), ""),
        (lambda x, indices: x[0], "of shape"),
        (lambda x, indices: x.expand(len(indices), -1, -1, -1), "are the same"),
        (lambda x, indices: x + torch.rand(len(indices), 1, 1, 1), "from the seed"),
        (lambda x, indices: x + torch.arange(float(len(indices))).view(-1, 1, 1, 1), "drawn with them"),
    ],
)
def test_a_sampler_that_needs_no_training_is_tried(function, reason):
    report = testing.inspect_sampler(Sampler("noise", lambda: Noise(function), trained=False))
    assert report.passed == (not reason)
    assert not reason or reason in report.failed[0]


def test_a_sampler_that_cannot_be_made_is_reported():
    assert "cannot be made" in testing.inspect_sampler(Sampler("none", "nowhere.at:All")).failed[0]
    with pytest.raises(PluginError, match="no method find"):
        testing.check_sampler(Sampler("none", dict))


def test_the_built_in_samplers_pass():
    report = testing.check_plugin("builtins", host=PluginHost(installed=False))
    assert {"vae", "training-free"} <= {check.subject for check in report.checks if check.passed}


def noise_of(seed):
    return {"a": np.random.default_rng(seed).normal(0, 20, (2, 32, 32))}


@pytest.mark.parametrize(
    ("open_it", "check", "reason"),
    [
        (lambda rest, seed: [1], "gives slices", "must return an invkit.SliceSet, got a list"),
        (lambda rest, seed: 1 / 0, "gives slices", "raised ZeroDivisionError"),
        (
            lambda rest, seed: SliceSet.of(noise_of(None)),
            "gives the same twice",
            "take any randomness from the seed",
        ),
    ],
)
def test_a_bad_source_is_reported(open_it, check, reason):
    report = testing.inspect_source(Source("bad", open_it))
    assert {c.name for c in report.checks if not c.passed} == {check}
    assert reason in report.failed[0]


def test_a_good_source_passes_and_one_that_needs_an_argument_is_not_blamed():
    good = testing.check_source(Source("good", lambda rest, seed: SliceSet.of(noise_of(seed))))
    assert [c.name for c in good.checks] == ["gives slices", "gives images in HU", "gives the same twice"]

    def needs(rest, seed):
        raise invkit.UsageError("write ward:FOLDER")

    (only,) = testing.check_source(Source("ward", needs)).checks
    assert only.detail == "not tested, since it needs an argument: write ward:FOLDER"
