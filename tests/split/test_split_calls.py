"""What has no module of its own: calls of functions, runs of a module, and tensors inside what is returned."""

import collections
import dataclasses

import pytest
import torch
from split_networks import (
    Branching,
    RedLike,
    SharedRed,
    UnetLike,
    exact,
    hook_count,
    images,
    seeded,
)
from torch import nn
from torch.nn import functional

from invkit.denoisers.loaded import load_denoiser, wrap_module
from invkit.denoisers.spec import Affine, Denoiser, Layer
from invkit.errors import DenoiserError, SplitError
from invkit.split.calls import Calls
from invkit.split.split import Split


def by_hand(network, x, run, value=None):
    """Return what the run-th convolution of `SharedRed` gives, and its output if that were `value`."""
    seen = []

    def conv(z):
        seen.append(network.conv(z))
        return value if value is not None and len(seen) == run else seen[-1]

    one = torch.relu(conv(torch.relu(network.first(x))))
    two = torch.relu(conv(torch.relu(conv(one))))
    z = network.up(torch.relu(conv(two))) + two
    z = network.up(torch.relu(network.up(torch.relu(z)))) + one
    z = network.last(torch.relu(network.up(torch.relu(z)))) + x
    return seen[run - 1].detach(), torch.relu(z).detach()


@pytest.mark.parametrize("run", [1, 2, 3, 4])
def test_each_run_of_a_shared_module_is_a_layer_of_its_own(run):
    network = seeded(SharedRed)
    x, other = images(), images(seed=9)
    split, report = exact(network, f"conv#{run}", x)
    assert report.modules == (f"conv#{run}",)
    assert report.bypass  # x is added at the end
    z, _ = by_hand(network, x, run)
    assert torch.equal(split.phi(x), z)
    assert torch.equal(split.psi(z, other), by_hand(network, other, run, z)[1])
    assert torch.equal(split.phi_grad(x.clone().requires_grad_()).detach(), z)


def test_a_sum_has_no_module_and_is_named_by_the_order_of_calls():
    network = seeded(RedLike)
    x, other = images(), images(seed=9)
    first = torch.relu(network.conv1(x))
    inner = network.up1(torch.relu(network.conv2(first))) + first
    outer = network.up2(torch.relu(inner)) + x
    for layer, z in (("add#1", inner), ("module:add#1", inner), ("function:add#2", outer)):
        split, report = exact(network, layer, x)
        assert torch.equal(split.phi(x), z.detach())
        assert report.bypass is (z is inner)
    assert torch.equal(
        Split(network, "add#1").psi(inner.detach(), other),
        torch.relu(network.up2(torch.relu(inner)) + other).detach(),
    )
    assert Split(network, "add#1").describe()["layers"] == ["function:add#1"]


def test_a_sum_of_another_image_stops_the_pass_there_and_leaves_no_mode():
    network = seeded(RedLike)
    ran = []
    network.up2.register_forward_hook(lambda *args: ran.append("late"))
    split = Split(network, "add#1")
    ran.clear()
    split.phi(images())
    assert not ran
    with torch.no_grad():
        assert torch.overrides._get_current_function_mode() is None
    assert hook_count(network) == 1


class Operators(nn.Module):
    def forward(self, x):
        y = 1 + x
        y += x
        y = torch.add(y, 1).add_(x[:1] if y.shape else x)
        return functional.relu(torch.relu((1 - y) - x), inplace=True)


def test_operators_in_place_and_reflected_are_calls_of_one_function():
    found, network = [], Operators()
    calls = Calls(lambda name, number, output: found.append((name, number)) or output)
    with calls.within(network):
        x = images() + 1
        network(x) + 1
    assert found == [
        ("add", 1), ("add", 2), ("add", 3), ("getitem", 1), ("add", 4), ("sub", 1), ("sub", 2), ("relu", 1), ("relu", 2),
    ]  # fmt: skip
    assert hook_count(network) == 0


def test_modules_and_functions_join_in_a_set():
    network = wrap_module(seeded(UnetLike), size_multiple=4)
    x, other = images(), images(seed=4)
    split, report = exact(network, "relu#3+enc2 + enc1", x)
    assert split.layer == "relu#3+enc2+enc1"
    assert not report.bypass
    assert torch.equal(split.phi(x)[0], torch.relu(network.network.bottom(torch.relu(split.phi(x)[1]))))
    assert torch.equal(split.psi(split.phi(x), other), network(x))


def test_a_module_that_has_the_functions_name_comes_first():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x):
            return torch.relu(self.relu(self.relu(x)))

    network, x = seeded(Both), images()
    assert torch.equal(Split(network, "relu#1").phi(x), network.relu(x))
    assert torch.equal(Split(network, "function:relu#1").phi(x), network(x))
    assert Split(network, "relu#1").check(x).bypass is False


@dataclasses.dataclass
class Pair:
    r: torch.Tensor
    rest: object = None


@dataclasses.dataclass(frozen=True)
class Frozen:
    r: torch.Tensor


Named = collections.namedtuple("Named", ["r", "s"])

NESTED = {
    "tuple of a dict": (lambda a, b: (a, {"r": b}), lambda p: [p[0], p[1]["r"]], "parts:1.r"),
    "dataclass": (lambda a, b: Pair(b, a), lambda p: [p.rest, p.r], "parts.r"),
    "dataclass in a list": (lambda a, b: [a, Pair(b)], lambda p: [p[0], p[1].r], "parts:1.r"),
    "frozen": (lambda a, b: (a, Frozen(b)), lambda p: [p[0], p[1].r], "parts:1.r"),
    "dict of a tuple": (lambda a, b: {"e": (a, b)}, lambda p: list(p["e"]), "parts.e:1"),
    "dict of a dict": (lambda a, b: {"e": {"r": b}, "a": a}, lambda p: [p["a"], p["e"]["r"]], "parts.e.r"),
    "namedtuple": (lambda a, b: {"e": Named(a, b)}, lambda p: list(p["e"]), "parts.e.s"),
}


@pytest.mark.parametrize("kind", NESTED)
def test_a_tensor_at_any_depth(kind):
    pack, unpack, layer = NESTED[kind]
    network = seeded(lambda: Branching(pack, unpack))
    x, other = images(), images(seed=6)
    split, report = exact(network, layer, x)
    assert report.bypass
    z = network.parts.b(x).detach()
    assert torch.equal(split.phi(x), z)
    by_hand = network.last(torch.relu(torch.cat([network.parts.a(other), z], 1)))
    assert torch.equal(split.psi(z, other), by_hand)


def test_what_is_put_in_leaves_the_networks_own_containers_alone():
    kept = []
    network = seeded(
        lambda: Branching(lambda a, b: kept.append((a, {"r": b})) or kept[-1], lambda p: [p[0], p[1]["r"]])
    )
    split = Split(network, "parts:1.r")
    own = split.phi(images(seed=1))
    split.psi(torch.zeros_like(own), images(seed=1))
    assert torch.equal(kept[-1][1]["r"], own)


def test_a_key_can_stand_for_a_set():
    spec = Denoiser(
        "unet",
        UnetLike,
        Affine(20.0, 300.0),
        layers=(
            Layer("1", "enc1"),
            Layer("enc2", "bottom"),
            Layer("deep", "bottom+enc2 + relu#1", "with its skips"),
        ),
        size_multiple=4,
    )
    denoiser = load_denoiser(spec)
    split, report = exact(denoiser, "deep", images())
    assert report.modules == ("bottom", "enc2", "function:relu#1")
    assert (split.layer, report.bypass) == ("deep", False)
    assert Split(denoiser, "1+enc2").describe()["layers"] == ["enc1", "bottom"]


@pytest.mark.parametrize("key", ["a+b", "a,b"])
def test_a_key_itself_holds_no_sign_of_a_set(key):
    with pytest.raises(DenoiserError, match="comma or a plus"):
        Layer(key, "a")


@pytest.mark.parametrize(
    ("layer", "wanted"),
    [
        ("conv#5", "runs 4 times in one pass, so there is no call 5"),
        ("conv#0", "counted from 1"),
        (
            "add#4",
            r"no module 'add'.*called 4 times. Functions called: add \(3\), conv2d \(5\), conv_transpose2d \(5\), relu \(10\)",
        ),
        ("cnov#1", "no module 'cnov'"),
        ("conv", "runs 4 times in one pass.*conv#1 to conv#4"),
        ("conv#1+conv", "same place"),
        ("conv#1+conv#1", "same place"),
        ("add#1+function:add#1", "same place"),
        ("first,last", r"A set of layers is written 'first\+last'"),
    ],
)
def test_what_never_happens_is_told_what_does(layer, wanted):
    network = seeded(SharedRed)
    with pytest.raises(SplitError, match=wanted):
        Split(network, layer).check(images())
    assert hook_count(network) == 0


def test_two_runs_are_two_places():
    split = Split(seeded(SharedRed), "conv#1+conv#2")
    one, two = split.phi(images())
    assert not torch.equal(one[..., :4, :4], two[..., :4, :4])
    split.check(images())
