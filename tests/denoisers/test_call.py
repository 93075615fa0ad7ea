"""Networks that are not called as network(image): arguments, elements of the output, channels, slices."""

import dataclasses
import json

import pytest
import torch
from torch import nn

from invkit.denoisers.contract import check_contract, probed
from invkit.denoisers.loaded import load_denoiser, wrap_module
from invkit.denoisers.recipe import Recipe
from invkit.denoisers.spec import Affine, Call, Denoiser
from invkit.errors import DenoiserError
from invkit.split.split import Split

SCALE = Affine(mean=50.0, std=400.0)


class Net(nn.Module):
    """A network whose first convolution takes `channels`, and whose forward is a function of (self, x, ...)."""

    def __init__(self, forward, channels=1, out=1):
        super().__init__()
        self.a, self.b = nn.Conv2d(channels, 4, 3, padding=1), nn.Conv2d(4, out, 3, padding=1)
        self.function = forward

    def net(self, x):
        return self.b(torch.relu(self.a(x)))

    def forward(self, x, **given):
        return self.function(self, x, **given)


@dataclasses.dataclass
class Output:
    sample: torch.Tensor
    more: tuple


def images(n: int = 2) -> torch.Tensor:
    return 100 * torch.randn(n, 1, 16, 20, generator=torch.Generator().manual_seed(3))


def cases():
    def plain(net, x):
        return net.net(x)

    def scaled(net, x, sigma, mode="a"):
        return net.net(x) * (1 + sigma) + (1 if mode == "b" else 0)

    def timed(net, x, t):
        assert t.dtype == torch.int64
        return net.net(x) + t[:, None, None, None]

    def mapped(net, x, sigma):
        return net.net(x) + sigma

    def packed(net, x):
        return {"out": Output(net.net(x), (x, net.net(2 * x)))}

    third = lambda x: x.repeat(1, 3, 1, 1)  # noqa: E731
    level = lambda x: torch.cat([x, torch.full_like(x, 0.2)], 1)  # noqa: E731
    return {
        "argument": (Net(scaled), 1, Call({"sigma": 0.5}), lambda n, x: n.net(x) * 1.5),
        "arguments": (Net(scaled), 1, Call({"sigma": 1, "mode": "b"}), lambda n, x: n.net(x) * 2 + 1),
        "time": (Net(timed), 1, Call(tensors={"t": 3}), lambda n, x: n.net(x) + 3),
        "shape": (Net(mapped), 1, Call(tensors={"sigma": [[[0.5]]]}), lambda n, x: n.net(x) + 0.5),
        "map": (Net(plain, 2), 1, Call(maps=(0.2,)), lambda n, x: n.net(level(x))),
        "attribute": (Net(packed), 1, Call(output=("out", "sample")), lambda n, x: n.net(x)),
        "index": (Net(packed), 1, Call(output=("out", "more", 1)), lambda n, x: n.net(2 * x)),
        "noise": (Net(plain), 1, Call(noise=True), lambda n, x: x - n.net(x)),
        "colour": (Net(plain, 3, 3), 3, Call(), lambda n, x: n.net(third(x)).mean(1, keepdim=True)),
        "colour to grey": (Net(plain, 3, 1), 3, Call(), lambda n, x: n.net(third(x))),
        "slices": (Net(plain, 3, 1), 1, Call(slices=3), lambda n, x: n.net(third(x))),
        "slices to slices": (Net(plain, 3, 3), 1, Call(slices=3), lambda n, x: n.net(third(x))[:, 1:2]),
        "colour and level": (
            Net(plain, 4, 3),
            3,
            Call(maps=(0.2,), noise=True),
            lambda n, x: x - n.net(torch.cat([third(x), torch.full_like(x, 0.2)], 1)).mean(1, keepdim=True),
        ),
    }


@pytest.mark.parametrize(("network", "channels", "call", "by_hand"), cases().values(), ids=cases())
def test_f_is_the_network_called_by_hand(network, channels, call, by_hand):
    loaded = probed(wrap_module(network, preprocessing=SCALE, channels=channels, call=call))
    x = images()
    with torch.no_grad():
        expected = by_hand(network, (x - 50.0) / 400.0) * 400.0 + 50.0
    assert torch.allclose(loaded(x), expected, rtol=0, atol=1e-3)
    assert torch.equal(check_contract(loaded, x), loaded(x))


@pytest.mark.parametrize(("network", "channels", "call", "by_hand"), cases().values(), ids=cases())
def test_layers_inside_and_the_output_are_split_and_gradients_are_those_of_autograd(
    network, channels, call, by_hand
):
    loaded = wrap_module(network, preprocessing=SCALE, channels=channels, call=call)
    x = images()
    output = Split(loaded, "output")
    assert torch.equal(output.psi(output.phi(x), x), loaded(x))
    if call.output != ("out", "more", 1):  # its layers run twice
        inner = Split(loaded, "module:b" if call.output == () else "output", allow_bypass=True)
        assert torch.equal(inner.psi(inner.phi(x), x), loaded(x))
    one = x.double().requires_grad_()
    network.double()
    try:
        (found,) = torch.autograd.grad(loaded(one).square().sum(), one)
        (expected,) = torch.autograd.grad(
            (by_hand(network, (one - 50.0) / 400.0) * 400.0 + 50.0).square().sum(), one
        )
    finally:
        network.float()
    assert torch.allclose(found, expected)


@pytest.mark.parametrize(
    ("call", "channels"),
    [
        (Call({"sigma": 0.1}), 1),
        (Call({"sigma": 0.2}), 1),
        (Call(tensors={"sigma": 0.1}), 1),
        (Call(maps=(0.1,)), 1),
        (Call(noise=True), 1),
        (Call(output=0), 1),
        (Call(slices=3), 1),
        (Call(), 3),
        (Call(), 1),
    ],
)
def test_the_call_is_part_of_the_fingerprint_and_of_the_fingerprint_alone(call, channels):
    network = Net(lambda net, x: net.net(x))
    found = wrap_module(network, call=call, channels=channels)
    plain = wrap_module(network)
    assert (found.sha256 == plain.sha256) == (call == Call() and channels == 1)
    json.dumps(call.describe())
    fingerprints = {
        wrap_module(network, call=other).sha256
        for other in (Call({"s": 0.1}), Call({"s": 0.2}), Call(tensors={"s": 0.1}), Call(maps=(0.1,)))
    }
    assert len(fingerprints) == 4


def test_weights_of_a_denoiser_are_called_as_the_description_says():
    def build():
        return Net(lambda net, x, sigma: net.net(x) + sigma)

    described = Denoiser("net", build, SCALE, call=Call({"sigma": 2.0}))
    loaded = load_denoiser(described, untrained_seed=4)
    x = images()
    with torch.no_grad():
        assert torch.equal(loaded(x), (loaded.network.net((x - 50.0) / 400.0) + 2.0) * 400.0 + 50.0)


@pytest.mark.parametrize(
    ("output", "call", "channels", "text"),
    [
        (
            lambda x: {"out": x, "loss": 1},
            Call(output="sample"),
            1,
            r"no element 'sample'; it is \['loss', 'out'\]",
        ),
        (lambda x: (x, x), Call(output=2), 1, "no element 2; it is a tuple of 2"),
        (lambda x: x, Call(output="sample"), 1, "no element 'sample'; it is a Tensor"),
        (lambda x: x.repeat(1, 2, 1, 1), Call(), 3, r"must return 1 or 3 channels, got shape \(.*, 6, "),
        (lambda x: (x, x), Call(), 1, "got tuple"),
    ],
)
def test_outputs_without_the_image_are_one_error(output, call, channels, text):
    network = Net(lambda net, x: output(x))
    with pytest.raises(DenoiserError, match=text):
        probed(wrap_module(network, call=call, channels=channels))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Call(arguments=["sigma"]), "arguments must be a dict"),
        (lambda: Call(arguments={"not a name": 1}), "arguments must be a dict"),
        (lambda: Call(arguments={"sigma": torch.zeros(1)}), "numbers, strings, truth values or None"),
        (lambda: Call(tensors={"sigma": "high"}), "nested lists"),
        (lambda: Call(tensors={"sigma": []}), "nested lists"),
        (lambda: Call({"a": 1}, {"a": 1}), "'a' stands in both"),
        (lambda: Call(slices=2), "odd number"),
        (lambda: Call(slices=0), "odd number"),
        (lambda: Call(output=1.5), "a key, an index or a tuple"),
        (lambda: Denoiser("net", list, SCALE, channels=2), "only 'HU' and 1 or 3"),
        (lambda: Denoiser("net", list, SCALE, channels=3, call=Call(slices=3)), "not both"),
        (lambda: Denoiser("net", list, SCALE, call="sigma=1"), r"must be an invkit\.Call"),
        (
            lambda: Denoiser(
                "net", list, SCALE, recipe=Recipe(patch=64, batch=1, steps=1, lr=0.1), call=Call(noise=True)
            ),
            "a recipe trains",
        ),
    ],
)
def test_impossible_calls(make, text):
    with pytest.raises(DenoiserError, match=text):
        make()
