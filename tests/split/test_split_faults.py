"""Networks that cannot be split: one typed error with the way out, no hook left (faults 21-23, 28)."""

import warnings

import pytest
import torch
from split_networks import Branching, ChenLike, YangLike, hook_count, images, seeded
from torch import nn

from invkit.denoisers.loaded import wrap_module
from invkit.errors import DenoiserError, ImageError, InvkitError, SplitError
from invkit.split.split import Split


class Around(nn.Module):
    """A network that uses its one layer as `use` says."""

    def __init__(self, use, layer=None):
        super().__init__()
        self.layer, self.use = layer or nn.Conv2d(1, 1, 3, padding=1), use

    def forward(self, x):
        return self.use(self, x)


class Returning(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *given):
        return self.function(*given)


def recurrent(net, x):
    for _ in range(3):
        x = net.layer(x)
    return x


def weights_only(net, x):
    return torch.conv2d(x, net.layer.weight, padding=1)


def write_through(net, x):
    a = x * 1
    net.layer(a).mul_(2)
    return a


def boom(*given):
    raise ZeroDivisionError("of all things")


FAULTS = {
    "runs three times": (lambda: Around(recurrent), "layer", SplitError, "runs 3 times in one pass"),
    "never runs": (lambda: Around(weights_only), "layer", SplitError, "never ran"),
    "shared": (
        lambda: Around(lambda net, x: net.alias(net.layer(x))),
        "alias",
        SplitError,
        "runs 2 times in one pass",
    ),
    "tuple": (
        lambda: Branching(lambda a, b: (a, b), lambda p: p),
        "parts",
        SplitError,
        r"a tuple of 2.*parts:0 \(a tensor \(2, 2, 16, 20\).*parts:1",
    ),
    "dict": (
        lambda: Branching(lambda a, b: {"first": a, "second": b}, lambda p: list(p.values())),
        "parts",
        SplitError,
        r"a dict.*parts\.first .*parts\.second",
    ),
    "no such element": (
        lambda: Branching(lambda a, b: (a, b), lambda p: p),
        "parts:2",
        SplitError,
        "without an element 2; there are: parts:0",
    ),
    "no such key": (
        lambda: Branching(lambda a, b: {"first": a, "second": b}, lambda p: list(p.values())),
        "parts.third",
        SplitError,
        r"without an element 'third'; there are: parts\.first",
    ),
    "key of a tuple": (
        lambda: Branching(lambda a, b: (a, b), lambda p: p),
        "parts.first",
        SplitError,
        "without an element 'first'",
    ),
    "element of a tensor": (
        lambda: Around(lambda net, x: net.layer(x), Returning(lambda x: x * 2)),
        "layer.first",
        SplitError,
        "no element 'first', and there is no module of that name. Choose 'layer'",
    ),
    "element is no tensor": (
        lambda: Branching(lambda a, b: (a, b, None), lambda p: p[:2]),
        "parts:2",
        SplitError,
        "gives None, but z must be one tensor. Choose a layer that gives a tensor",
    ),
    "none": (lambda: Around(lambda net, x: x, None), "layer", SplitError, "never ran"),
    "gives none": (
        lambda: Around(lambda net, x: (net.layer(x), x)[1], Returning(lambda x: None)),
        "layer",
        SplitError,
        "gives None",
    ),
    "whole numbers": (
        lambda: Around(lambda net, x: net.layer(x).float(), Returning(lambda x: x.long())),
        "layer",
        SplitError,
        "int64, but z must be floating-point",
    ),
    "not finite": (
        lambda: Around(lambda net, x: torch.nan_to_num(net.layer(x)) + 0 * x, Returning(lambda x: x / 0)),
        "layer",
        SplitError,
        "not finite",
    ),
    "no batch axis": (
        lambda: Around(
            lambda net, x: net.layer(x).permute(2, 3, 0, 1),
            Returning(lambda x: x.permute(2, 3, 0, 1).contiguous()),
        ),
        "layer",
        SplitError,
        r"shape \(16, 20, 2, 1\) for 2 images",
    ),
    "mixes the batch": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2, track_running_stats=False), nn.Conv2d(2, 1, 1)
        ),
        "1",
        SplitError,
        "depends on the other images of the batch",
    ),
    "knows nothing of the image": (
        lambda: Around(lambda net, x: x + net.layer(x), Returning(torch.ones_like)),
        "layer",
        SplitError,
        "does not depend on the image",
    ),
    "writes through a view": (
        lambda: Around(write_through, nn.Identity()),
        "layer",
        SplitError,
        "not exact.*shares memory",
    ),
    "layer raises": (
        lambda: Around(lambda net, x: net.layer(x), Returning(boom)),
        "layer",
        DenoiserError,
        "raised ZeroDivisionError on an input of shape .*of all things",
    ),
    "network raises later": (
        lambda: Around(lambda net, x: boom(net.layer(x))),
        "layer",
        DenoiserError,
        "raised ZeroDivisionError",
    ),
    "returns a tuple": (lambda: Around(lambda net, x: (net.layer(x),)), "layer", DenoiserError, "got tuple"),
    "other shape": (
        lambda: Around(lambda net, x: net.layer(x)[..., 1:]),
        "layer",
        DenoiserError,
        "must return shape",
    ),
    "random": (
        lambda: Around(lambda net, x: net.layer(x) + torch.rand_like(x)),
        "layer",
        DenoiserError,
        "not deterministic",
    ),
    "nan out": (lambda: Around(lambda net, x: net.layer(x) / 0), "layer", DenoiserError, "not finite"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_typed_error_and_leaves_no_hook(fault):
    make, layer, kind, text = FAULTS[fault]
    network = seeded(make)
    if fault == "shared":
        network.alias = network.layer
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.register_forward_hook(lambda *args: None)
    with pytest.raises(kind, match=text) as caught:
        Split(network, layer).check(images())
    assert isinstance(caught.value, InvkitError)
    assert hook_count(network) == 1
    assert network.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("fault", ["never runs", "tuple", "no such element", "gives none", "layer raises"])
def test_phi_alone_says_it_too(fault):
    make, layer, kind, _ = FAULTS[fault]
    network = seeded(make)
    for ask in (Split.phi, Split.phi_and_f):
        with pytest.raises(kind):
            ask(Split(network, layer), images())
    assert hook_count(network) == 0


def test_psi_alone_finds_a_layer_that_runs_again():
    network = seeded(lambda: Around(recurrent))
    split = Split(network, "layer")
    with pytest.raises(SplitError, match="must run exactly once in a pass, it ran: layer 3 times"):
        split.psi(split.phi(images()), images())
    assert hook_count(network) == 0


@pytest.mark.parametrize("layer", ["net.2", "output"])
def test_z_of_another_size_is_refused(layer):
    network = seeded(ChenLike)
    split = Split(network, layer)
    with pytest.raises(SplitError, match=r"\(2, ., 16, 20\).*\(2, ., 16, 16\)"):
        split.psi(split.phi(images()), images(2, 16, 16))
    with pytest.raises(SplitError, match=r"is 1 tensor\(s\), got 2"):
        split.psi((split.phi(images()),) * 2, images())
    assert hook_count(network) == 0


def test_a_set_wants_a_tuple():
    split = Split(seeded(YangLike), "convs.1+convs.2")
    with pytest.raises(SplitError, match=r"is 2 tensor\(s\), got 1"):
        split.psi(split.phi(images())[0], images())


@pytest.mark.parametrize("layer", ["net.0", "input", "const", "output"])
def test_images_are_validated(layer):
    split = Split(seeded(ChenLike), layer)
    for bad in (torch.zeros(16, 16), torch.zeros(1, 3, 16, 16), torch.zeros(1, 1, 16, 16, dtype=torch.int32)):
        with pytest.raises(ImageError):
            split.phi(bad)
    with pytest.raises(ImageError, match="NaN or Inf"):
        split.check(images() * torch.nan)


def test_a_keyboard_interrupt_in_the_network_leaves_no_hook():
    def interrupted(net, x):
        net.layer(x)
        raise KeyboardInterrupt

    network = Around(interrupted)
    split = Split(network, "layer")
    z = split.phi(images())
    with pytest.raises(KeyboardInterrupt):
        split.psi(z, images())
    with pytest.raises(KeyboardInterrupt):
        split.check(images())
    assert hook_count(network) == 0
    assert network.training


def test_a_network_that_swallows_exceptions_cannot_hide_a_fault():
    def careful(net, x):
        try:
            return net.layer(x)[0]
        except Exception:
            return x

    network = Around(careful, Returning(lambda x: (x, x)))
    with pytest.raises(SplitError, match="a tuple of 2"):
        Split(network, "layer").check(images())


@pytest.mark.parametrize("network", ["yang2018", None, lambda x: x])
def test_what_is_no_network_is_refused(network):
    with pytest.raises(DenoiserError, match=r"needs a torch\.nn\.Module"):
        Split(network, "3")


@pytest.mark.parametrize("wrap", [lambda m: m, nn.DataParallel])
def test_torchscript_is_refused_with_the_reason(wrap):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = wrap(torch.jit.script(ChenLike()))
    with pytest.raises(SplitError, match="TorchScript does not support hooks"):
        Split(network, "net.0")


@pytest.mark.parametrize("fault", ["no such element", "no such key", "key of a tuple", "element of a tensor"])
def test_an_element_that_does_not_exist_is_found_at_once(fault):
    make, layer, kind, text = FAULTS[fault]
    network = seeded(make)
    with pytest.raises(kind, match=text):
        Split(network, layer)
    assert hook_count(network) == 0


def test_a_random_network_is_named_as_such_whatever_its_layer_does():
    network = Around(lambda net, x: net.layer(x), Returning(lambda x: x + torch.rand_like(x)))
    with pytest.raises(DenoiserError, match="not deterministic"):
        Split(network, "layer").check(images())


def test_mutated_input_is_neutralised():
    network = Around(lambda net, x: net.layer(x.mul_(0.5)))
    x = images()
    kept = x.clone()
    split = Split(wrap_module(network), "layer")
    split.check(x)
    split.phi_grad(x.requires_grad_())
    assert torch.equal(x, kept)
