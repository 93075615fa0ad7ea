"""Which place a layer string names, and what an impossible one is told."""

import warnings

import pytest
import torch
from split_networks import Branching, ChenLike, YangLike, seeded
from torch import nn

from invkit.denoisers.loaded import wrap_module
from invkit.denoisers.spec import Layer
from invkit.errors import InvkitError, SplitError
from invkit.split.layers import module_names, resolve
from invkit.split.split import Split

KEYS = (Layer("1", "net.0", "conv 5x5x6, before ReLU"), Layer("3", "net.2"), Layer("net", "net.4"))


def places(texts, network=None, keys=KEYS):
    found = resolve(network or ChenLike(), keys, texts, owner="net")
    return [layer.name for layer in found]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("3", "net.2"),
        ("net", "net.4"),
        ("module:net", "net"),
        ("net.3", "net.3"),
        ("module:net.3", "net.3"),
    ],
)
def test_keys_come_first_and_module_names_the_module(text, name):
    assert places([text]) == [name]


def test_a_set_keeps_its_order():
    assert places(["3", "net.1", "1"]) == ["net.2", "net.1", "net.0"]
    split = Split(wrap_module(ChenLike(), layers=KEYS), "3 + net.1")
    assert split.layer == "3+net.1"
    assert [layer.text for layer in split.layers] == ["3", "net.1"]
    assert Split(ChenLike(), ["net.0", "net.1"]).layer == "net.0+net.1"


class Dotted(nn.Module):
    """A module whose child's name equals the key of a dict another may return."""

    def __init__(self):
        super().__init__()
        self.enc = nn.Module()
        self.enc.skip = nn.Conv2d(1, 1, 1)


@pytest.mark.parametrize(
    ("text", "module", "element"),
    [
        ("parts:0", "parts", (0,)),
        ("parts:-1", "parts", (-1,)),
        ("parts.first", "parts", ("first",)),
        ("parts.a.b", "parts", ("a.b",)),
        ("both:1", "parts", (1,)),
        ("both.first", "parts", ("first",)),
        ("module:parts:1", "parts", (1,)),
        ("module:parts.first", "parts", ("first",)),
        ("parts.a", "parts.a", ()),
        ("chosen", "parts", (1,)),
    ],
)
def test_elements(text, module, element):
    network = Branching(lambda a, b: (a, b), lambda parts: parts)
    keys = (Layer("both", "parts"), Layer("chosen", "parts:1"))
    (layer,) = resolve(network, keys, [text], owner="net")
    assert (layer.module, layer.element) == (module, element)


def test_a_module_of_that_exact_name_wins():
    assert places(["enc.skip"], Dotted(), ()) == ["enc.skip"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("9", "no layer '9'.*Layers: 1 .conv 5x5x6, before ReLU., 3 .net.2.*Controls: input, const, output"),
        ("9", "Modules: net, net.0, net.1, net.2, net.3, net.4"),
        ("net.9", "no layer 'net.9'"),
        ("net.foo", "no layer 'net.foo'"),
        ("net.2.weight", "no layer"),
        ("net.2:0", "no layer"),
        ("module:3", "no layer 'module:3'"),
        ("module:", "no layer"),
        ("nett.4", "Did you mean 'net.4'"),
        ("", "named by a string"),
        ("3+", "named by a string"),
        ("input+3", "'input' must be used alone"),
        ("3+output", "'output' must be used alone"),
        ("3+net.2", "'3' and 'net.2' of module are the same place"),
        ([], "no layer"),
        ([3], "got 3"),
        (3, "got 3"),
        (None, "got None"),
    ],
)
def test_what_does_not_exist_is_told_what_does(text, wanted):
    with pytest.raises(SplitError, match=wanted) as caught:
        Split(wrap_module(ChenLike(), layers=KEYS), text)
    assert isinstance(caught.value, InvkitError)


def test_a_plugins_layer_that_its_network_lacks():
    with pytest.raises(SplitError, match=r"stands for module 'net\.9', which its network does not have"):
        places(["7"], keys=(Layer("7", "net.9"),))


def test_a_list_of_modules_never_runs():
    with pytest.raises(SplitError, match=r"ModuleList, which is never called itself.*convs\.0, convs\.1"):
        Split(YangLike(), "convs")
    assert Split(YangLike(), "convs.3").layers[0].module == "convs.3"


def test_a_whole_and_its_part_are_one_place_two_parts_are_not():
    network = Branching(lambda a, b: (a, b), lambda parts: parts)
    with pytest.raises(SplitError, match="same place"):
        Split(network, "parts+parts:0")
    assert len(Split(network, "parts:0+parts:1").layers) == 2


def test_a_shared_module_has_all_its_names():
    network = seeded(ChenLike)
    network.alias = network.net[2]
    assert places(["alias"], network) == ["alias"]
    with pytest.raises(SplitError, match="same place"):
        places(["alias", "net.2"], network)


def test_inside_torchscript_no_hook_runs():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = nn.Sequential(torch.jit.script(ChenLike()), nn.Conv2d(1, 1, 1))
    assert places(["0"], network, ()) == ["0"]
    with pytest.raises(SplitError, match="inside the TorchScript module '0'"):
        places(["0.net"], network, ())


def test_compiled_parts_keep_their_names():
    network = nn.Sequential(torch.compile(ChenLike()), nn.Conv2d(1, 1, 1))
    assert set(module_names(network)) == set(module_names(nn.Sequential(ChenLike(), nn.Conv2d(1, 1, 1))))


def test_a_long_list_is_cut():
    network = nn.Sequential(*[nn.Conv2d(1, 1, 1) for _ in range(60)])
    with pytest.raises(SplitError, match="and 20 more"):
        Split(network, "99")


def test_controls_are_not_hidden_by_modules_of_their_name():
    network = nn.Sequential()
    network.add_module("output", nn.Conv2d(1, 1, 3, padding=1))
    assert Split(network, "output").layers == ()
    assert Split(network, "module:output").layers[0].module == "output"
