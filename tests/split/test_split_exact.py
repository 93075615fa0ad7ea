"""Phi and Psi of networks that can be split, against the same layers called directly."""

import collections
import dataclasses

import pytest
import torch
from split_networks import Branching, ChenLike, RedLike, UnetLike, YangLike, exact, images, seeded
from torch import nn
from torch.nn import functional

from invkit.denoisers.loaded import load_denoiser, wrap_module
from invkit.denoisers.spec import Affine, Denoiser, Layer
from invkit.errors import SplitError
from invkit.split.split import Split

SCALE = Affine(mean=20.0, std=300.0)


@pytest.mark.parametrize("layer", range(5))
def test_chen_like_every_module_is_a_cut(layer):
    network = wrap_module(seeded(ChenLike), preprocessing=SCALE)
    x, other = images(), images(seed=9)
    split, report = exact(network, f"net.{layer}", x)
    z = SCALE.normalise(x)
    for part in network.network.net[: layer + 1]:
        z = part(z)
    assert torch.equal(split.phi(x), z)
    assert torch.equal(split.psi(z, other), network(x))
    assert (report.bypass, report.leak, report.numbers) == (False, 0.0, z[0].numel())


@pytest.mark.parametrize("layer", range(8))
def test_in_place_relu_after_the_layer_takes_nothing_from_z(layer):
    network = seeded(YangLike)
    x = images()
    split, _ = exact(network, f"convs.{layer}", x)
    z = x
    for conv in network.convs[:layer]:
        z = torch.relu(conv(z))
    z = network.convs[layer](z).detach()
    assert torch.equal(split.phi(x), z)
    assert layer == 7 or (z < 0).float().mean() > 0.05


def test_in_place_relu_before_the_layer_and_as_the_layer():
    network = seeded(
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(inplace=True), nn.ReLU(inplace=True), nn.Conv2d(4, 1, 1)
        )
    )
    x = images()
    for layer in ("0", "1", "2", "3"):
        split, _ = exact(network, layer, x)
        expected = network[: int(layer) + 1](x.clone()).detach()
        assert layer == "0" or torch.equal(split.phi(x), expected)
    assert torch.equal(Split(network, "0").phi(x), network[0](x))


def test_z_belongs_to_the_caller():
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(4, 1, 1))
    split, x = Split(network, "0"), images()
    z = split.phi(x)
    kept = z.clone()
    split.psi(z, x)
    assert torch.equal(z, kept)
    z.zero_()
    assert torch.equal(split.phi(x), kept)


def test_phi_stops_once_z_is_there():
    ran = []
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Conv2d(2, 1, 1))
    network[2].register_forward_hook(lambda *args: ran.append("late"))
    Split(network, "0").phi(images())
    assert ran == []
    Split(network, "0").check(images())
    assert ran


def test_a_network_that_catches_exceptions_does_not_swallow_the_stop():
    class Careful(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.last = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 1, 1)

        def forward(self, x):
            try:
                z = self.inner(x)
            except Exception:
                z = torch.zeros(x.shape[0], 2, *x.shape[2:])
            return self.last(z)

    network = seeded(Careful)
    split, _ = exact(network, "inner")
    assert torch.equal(split.phi(images()), network.inner(images()))


def test_a_users_hook_on_the_layer_counts_as_part_of_it():
    network = seeded(ChenLike)
    network.net[0].register_forward_hook(lambda module, given, output: output * 2)
    split, _ = exact(network, "net.0")
    assert torch.equal(
        split.phi(images()), 2 * functional.conv2d(images(), *network.net[0].parameters(), padding=2)
    )


def test_unet_bottom_with_its_skips_is_a_cut():
    network = wrap_module(seeded(UnetLike), size_multiple=4)
    x, other = images(), images(seed=4)
    split, report = exact(network, "bottom+enc2+enc1", x)
    assert [tuple(z.shape) for z in split.phi(x)] == [(2, 5, 4, 5), (2, 4, 8, 10), (2, 3, 16, 20)]
    assert [grid.stride for grid in report.grids] == [4, 2, 1]
    assert report.numbers == 5 * 20 + 4 * 80 + 3 * 320
    assert torch.equal(split.psi(split.phi(x), other), network(x))
    assert exact(network, "up1+enc1+enc2", x)[1].leak == 0


def test_red_like_skips_are_found():
    network = seeded(RedLike)
    x = images()
    for layer in ("conv1", "conv2", "up1", "up2", "conv1+conv2", "conv2+up2"):
        split, report = exact(network, layer, x)
        assert report.bypass
        other = images(seed=8)
        assert not torch.equal(split.psi(split.phi(x), other), split.psi(split.phi(x), x))


def test_leak_is_the_share_of_the_change_that_goes_round():
    class Half(nn.Module):
        def __init__(self, around):
            super().__init__()
            self.layer, self.around = nn.Identity(), around

        def forward(self, x):
            return (1 - self.around) * self.layer(x) + self.around * x

    for around in (0.25, 0.5, 1.0):
        report = Split(Half(around), "layer").check(images())
        assert report.leak == pytest.approx(around, rel=1e-4)
        assert Split(Half(around), "layer", allow_bypass=True).check(images()) == report
    tiny = Split(Half(1e-7), "layer").check(images())
    assert tiny.bypass
    assert 0 < tiny.leak < 1e-5


def test_residual_network_whose_skip_starts_after_the_layer_is_a_cut():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.body, self.tail = (nn.Conv2d(1, 1, 3, padding=1) for _ in range(3))

        def forward(self, x):
            head = self.head(x)
            return self.tail(head + self.body(head))

    network = seeded(Residual)
    assert not exact(network, "head")[1].bypass
    assert exact(network, "body")[1].bypass
    assert not exact(network, "tail")[1].bypass


Pair = collections.namedtuple("Pair", ["first", "second"])

STRUCTURED = {
    "tuple": (lambda a, b: (a, b), lambda p: [p[0], p[1]], ("parts:0", "parts:1", "parts:-1")),
    "list": (lambda a, b: [a, b], list, ("parts:0", "parts:1")),
    "dict": (
        lambda a, b: {"first": a, "b.x": b},
        lambda p: [p["first"], p["b.x"]],
        ("parts.first", "parts.b.x"),
    ),
    "ordered": (
        lambda a, b: collections.OrderedDict(first=a, second=b),
        lambda p: [p["first"], p["second"]],
        ("parts.first", "parts.second"),
    ),
    "namedtuple": (Pair, lambda p: [p.first, p.second], ("parts.first", "parts:1")),
    "with rest": (lambda a, b: (None, a, {"deep": 1}, b), lambda p: [p[1], p[3]], ("parts:1", "parts:3")),
}


@pytest.mark.parametrize("kind", STRUCTURED)
def test_an_element_of_a_structured_output(kind):
    pack, unpack, layers = STRUCTURED[kind]
    network = seeded(lambda: Branching(pack, unpack))
    x, other = images(), images(seed=6)
    for layer in layers[:2]:
        split = Split(network, layer)
        report = split.check(x)
        assert report.bypass
        expected = network.parts.a(x) if layer == layers[0] else network.parts.b(x)
        assert torch.equal(split.phi(x), expected)
    both, report = exact(network, "+".join(layers[:2]), x)
    assert not report.bypass
    assert torch.equal(both.psi(both.phi(x), other), network(x))


def test_batch_norm_and_dropout_in_training_mode_are_put_to_rest():
    network = seeded(
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Conv2d(4, 1, 3, padding=1),
        )
    ).train()
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for layer in "01234":
        exact(network, layer)
    assert network.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(("height", "width"), [(16, 16), (33, 65), (17, 20), (6, 5)])
def test_any_size_with_a_size_multiple(height, width):
    network = wrap_module(seeded(UnetLike), size_multiple=4, preprocessing=SCALE)
    x = images(2, height, width)
    split, report = exact(network, "enc1+enc2+bottom", x)
    padded = (height + -height % 4, width + -width % 4)
    assert report.grids[0].size == padded
    assert tuple(split.phi(x)[2].shape[-2:]) == (padded[0] // 4, padded[1] // 4)
    assert split.psi(split.phi(x), x).shape == x.shape
    assert Split(network, "output").phi(x).shape[-2:] == padded


def test_grids():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.valid, self.flat, self.back = nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(504, 320)

        def forward(self, x):
            return self.back(self.flat(self.valid(x))).view(x.shape)

    layers = ("valid", "flat", "input", "const", "output")
    grids = {name: Split(Odd(), name).grid(images())[0] for name in layers}
    assert {name: grid.stride for name, grid in grids.items()} == {
        "valid": None, "flat": None, "input": 1, "const": 1, "output": 1,
    }  # fmt: skip
    assert grids["flat"].shape == (504,)
    assert grids["valid"].shape == (2, 14, 18)
    exact(Odd(), "flat")


def test_attention_runs_without_its_fast_path():
    class Attentive(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Conv2d(1, 8, 1)
            self.encoder = nn.TransformerEncoder(
                nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, enable_nested_tensor=False
            )
            self.tail = nn.Conv2d(8, 1, 1)

        def forward(self, x):
            z = self.head(x)
            return self.tail(self.encoder(z.flatten(2).transpose(1, 2)).transpose(1, 2).view(z.shape))

    network, x = seeded(Attentive), images(1, 6, 6)
    for layer in ("head", "encoder.layers.0", "encoder", "tail"):
        exact(network, layer, x)
    assert torch.backends.mha.get_fastpath_enabled()
    assert exact(network, "encoder.layers.0.linear2", x)[1].bypass


def test_compiled_networks_and_parts():
    network = seeded(ChenLike)
    assert exact(torch.compile(network), "net.2")[0].denoiser.network is network
    parts = nn.Sequential(torch.compile(network), nn.Conv2d(1, 1, 1))
    split, _ = exact(parts, "0.net.2")
    assert torch.equal(split.phi(images()), network.net[:3](images()))


def test_controls():
    network = wrap_module(seeded(ChenLike), preprocessing=SCALE, size_multiple=8)
    x, other = images(2, 13, 11), images(2, 13, 11, seed=8)
    given, constant, output = (Split(network, name) for name in ("input", "const", "output"))
    assert torch.equal(given.phi(x), x)
    assert given.phi(x) is not x
    assert torch.equal(given.psi(given.phi(x), other), network(x))
    assert torch.equal(constant.phi(x), torch.zeros(2, 1, 13, 11))
    with pytest.raises(SplitError, match="no Psi"):
        constant.psi(constant.phi(x), x)
    assert torch.equal(output.phi(x), network.network(network.prepare(x)))
    assert torch.equal(output.psi(output.phi(x), other), network(x))
    assert (given.is_control, constant.is_control, output.is_control) == (True, True, False)
    reports = [split.check(x) for split in (given, constant, output)]
    assert [report.exact for report in reports] == [True, False, True]
    assert not any(report.bypass for report in reports)
    assert [report.numbers for report in reports] == [143, 143, 256]
    assert given.describe() == {"control": "input"}
    assert constant.describe() == {"control": "const"}
    assert output.describe() == {"denoiser": "module", "sha256": network.sha256, "layers": ["output"]}


def test_a_description_does_not_depend_on_how_the_layer_was_named():
    spec = Denoiser("net", ChenLike, SCALE, layers=(Layer("3", "net.2"),))
    loaded = load_denoiser(spec)
    described = [Split(loaded, text).describe() for text in ("3", "net.2", "module:net.2", ["3"])]
    assert all(one == described[0] for one in described)
    assert described[0] == {"denoiser": "net", "sha256": loaded.sha256, "layers": ["net.2"]}
    assert Split(loaded, "net.3").describe() != described[0]
    assert Split(load_denoiser(spec, untrained_seed=4), "3").describe() != described[0]


def test_one_carrier_serves_many_z():
    split, x = Split(seeded(ChenLike), "net.2"), images(5)
    found = split.psi(split.phi(x), x[:1])
    assert torch.allclose(found, split.denoiser(x), rtol=1e-5, atol=1e-4)


def test_a_report_is_a_plain_record():
    report = dataclasses.asdict(Split(seeded(ChenLike), "net.2").check(images()))
    assert report == {
        "layer": "net.2", "modules": ("net.2",), "numbers": 4 * 320, "exact": True, "bypass": False,
        "leak": 0.0,
        "grids": ({"shape": (4, 16, 20), "stride": 1, "size": (16, 20)},),
    }  # fmt: skip
