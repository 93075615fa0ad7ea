"""What each layer is listed as: against splitting there, against the graph of torch.export, and against what is known by hand."""

import dataclasses
import warnings
from collections import Counter

import pytest
import torch
from split_networks import (
    Branching,
    ChenLike,
    DnCnn,
    RedLike,
    SharedRed,
    UnetLike,
    YangLike,
    hook_count,
    images,
    seeded,
)
from torch import nn

import invkit
from invkit.denoisers.loaded import load_denoiser, wrap_module
from invkit.denoisers.spec import Affine, Denoiser, Layer
from invkit.split.follow import follow
from invkit.split.listing import list_layers
from invkit.split.split import Split

NETWORKS = (ChenLike, YangLike, RedLike, SharedRed, DnCnn, UnetLike)


def denoiser(make):
    return wrap_module(seeded(make), size_multiple=4)


def listed(network):
    return {row.layer: row for row in list_layers(network).layers}


@pytest.mark.parametrize("make", NETWORKS)
def test_whatever_is_listed_can_be_split_and_is_what_it_is_called(make):
    network = denoiser(make)
    x = images(2, 32, 32)
    before = {name: tensor.clone() for name, tensor in network.network.state_dict().items()}
    rows = list_layers(network).layers
    assert hook_count(network) == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.network.state_dict().items())
    usable = [row for row in rows if row.kind in ("cut", "branch")]
    assert len(usable) >= 5
    for row in usable:
        split = Split(network, row.layer)
        assert split.check(x).bypass is (row.kind == "branch"), row
        assert tuple(split.phi(images(1, 64, 64)).shape[1:]) == row.shape
        assert row.kind == "branch" or not row.set
    for found in {row.set for row in usable if row.set}:
        assert not Split(network, found).check(x).bypass, found


def test_the_sets_of_a_u_net_are_its_skips():
    sets = {name: row.set for name, row in listed(denoiser(UnetLike)).items() if row.kind == "branch"}
    assert sets == {
        "enc2": "relu#1+enc2",
        "relu#2": "relu#1+relu#2",
        "bottom": "relu#1+relu#2+bottom",
        "relu#3": "relu#1+relu#2+relu#3",
        "up1": "relu#1+relu#2+up1",
        "relu#4": "relu#1+relu#2+relu#4",
        "cat#1": "relu#1+cat#1",
        "up2": "relu#1+up2",
        "relu#5": "relu#1+relu#5",
    }


@pytest.mark.parametrize(
    ("make", "cuts"),
    [(DnCnn, {"sub#1"}), (RedLike, {"add#2", "relu#4"}), (SharedRed, {"add#3", "relu#10"})],
)
def test_round_the_layers_of_a_residual_network_goes_the_image_and_no_set_holds_it(make, cuts):
    rows = listed(denoiser(make))
    assert {name for name, row in rows.items() if row.kind == "cut"} == cuts
    assert not any(row.set for row in rows.values())


def test_each_run_of_a_shared_module_is_listed():
    rows = listed(denoiser(SharedRed))
    assert (rows["conv"].kind, rows["conv"].runs, rows["conv"].text) == ("several", 4, "runs 4 times")
    assert [rows[f"conv#{run}"].shape for run in (1, 2, 3, 4)] == [
        (4, 60 - 2 * k, 60 - 2 * k) for k in range(4)
    ]


def exported_cuts(network, x):
    """Return, for each kind of operation, whether its calls are cuts, from the graph that torch.export finds."""
    nodes = [
        node
        for node in torch.export.export(network.eval(), (x,)).graph.nodes
        if node.op in ("call_function", "output", "placeholder")
    ]
    order = {node: index for index, node in enumerate(nodes)}
    image = next(node for node in nodes if node.name == "x")
    of_image = {image}
    for node in nodes:
        if set(node.all_input_nodes) & of_image:
            of_image.add(node)
    found = {}
    for node in nodes:
        if node.op == "call_function":
            here = order[node]
            live = [
                other
                for other in of_image
                if order[other] <= here and any(order[user] > here for user in other.users)
            ]
            name = node.target.__name__.partition(".")[0].rstrip("_")
            found.setdefault(name, []).append(live == [node])
    return found


@pytest.mark.parametrize("make", [ChenLike, RedLike, SharedRed, UnetLike])
def test_the_graph_of_torch_export_says_the_same(make):
    network = denoiser(make)
    expected = exported_cuts(network.network, torch.zeros(2, 1, 32, 32))
    followed = follow(network, images(2, 32, 32))
    live = dict(followed.live())
    found = {}
    for one in followed.made:
        if one.function:
            found.setdefault(one.function, []).append(live[one.time] == {one.tensor})
    assert found == expected
    assert sum(map(len, found.values())) > 4


def test_a_network_that_was_exported_has_the_same_sets():
    # Its functions are called in one version each, such as `relu.default`.
    program = torch.export.export(seeded(UnetLike).eval(), (torch.zeros(5, 1, 64, 64),))
    network = wrap_module(torch.export.unflatten(program), size_multiple=64)
    rows, own = listed(network), listed(denoiser(UnetLike))
    assert {name: (row.kind, row.set) for name, row in rows.items()} == {
        name: (row.kind, row.set) for name, row in own.items()
    }
    x = images(5, 64, 64)
    assert torch.equal(Split(network, "cat#1").phi(x), Split(denoiser(UnetLike), "cat#1").phi(x))


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x.relu()


def traced():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU()), torch.zeros(1, 1, 8, 8))


class Beside(nn.Module):
    """Two ways, one of them through `inner`, which is no module of it."""

    def __init__(self, make):
        super().__init__()
        self.last, self.same = nn.Conv2d(1, 1, 1), nn.Identity()
        self.held, self.scale = [make()], torch.full((1, 1, 1, 1), 3.0)

    def forward(self, x):
        return self.last(torch.relu(x)) + self.same(self.held[0](self.scale * x))


def test_what_runs_out_of_sight_is_not_taken_for_a_constant():
    listing = list_layers(seeded(lambda: Beside(traced)))
    assert "no operation is seen" in listing.unfollowed
    assert [(row.layer, row.kind) for row in listing.layers] == [("last", "branch"), ("same", "branch")]


def test_constants_and_functions_of_ones_own_are_followed():
    rows = listed(seeded(lambda: Beside(lambda: Doubled.apply)))
    assert (rows["last"].set, rows["same"].set) == ("last+same", "last+same")
    assert rows["mul#1"].kind == "image"


def test_a_compiled_part_runs_once():
    network = seeded(
        lambda: nn.Sequential(torch.compile(nn.Conv2d(1, 2, 1), backend="eager"), nn.Conv2d(2, 1, 1))
    )
    assert [(row.layer, row.what, row.kind) for row in list_layers(network).layers] == [
        ("0", "Conv2d", "cut"), ("1", "Conv2d", "cut"),
    ]  # fmt: skip


class Step(nn.Module):
    """A network that does as `use` says with its parts."""

    def __init__(self, use):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 1, 3, padding=1)
        self.act, self.same, self.unused = nn.ReLU(inplace=True), nn.Identity(), nn.Conv2d(1, 1, 1)
        self.use = use

    def forward(self, x):
        return self.use(self, x)


def kept_under_another_name(net, x):
    before = net.a(x)
    return net.b(net.act(before)) + net.b(before)


def written_into_a_buffer(net, x):
    out = torch.zeros(x.shape[0], 2, *x.shape[2:])
    out[:, :1] = net.a(x)[:, :1]
    out[:, 1:] = net.a(x)[:, 1:]
    return net.b(net.same(out))


def half_is_kept(net, x):
    z = net.a(x)
    first, second = z.chunk(2, 1)
    return net.b(net.same(torch.cat([first, 2 * second], 1)))


def written_in_place_later(net, x):
    z, other = net.a(x), net.same(x)
    z += other
    return net.b(z)


@pytest.mark.parametrize(
    ("use", "kinds"),
    [
        (kept_under_another_name, {"a": "cut", "act": "branch"}),
        (written_into_a_buffer, {"a#1": "branch", "a#2": "branch", "same": "cut"}),
        (half_is_kept, {"a": "cut", "chunk#1:0": "branch", "mul#1": "branch", "cat#1": "cut", "same": "cut"}),
        (written_in_place_later, {"a": "branch", "same": "image", "add#1": "cut"}),
        (lambda net, x: net.b(net.a(net.same(2 * x + 1))), {"same": "image", "mul#1": "image", "a": "cut"}),
        (lambda net, x: net.b(net.a(x)) + net.same(nn.functional.pad(x, (1, 1)))[..., 1:-1], {"a": "branch"}),
        (lambda net, x: net.b(net.a(x) + net.same(torch.ones_like(x))), {"same": "no image", "a": "cut"}),
        (lambda net, x: net.b(net.a(x.permute(1, 0, 2, 3).reshape(x.shape[0], 1, *x.shape[2:]))), {"a": "cut"}),
    ],
)  # fmt: skip
def test_views_copies_and_writing_in_place(use, kinds):
    network = seeded(lambda: Step(use))
    rows = listed(network)
    assert {name: rows[name].kind for name in kinds} == kinds
    assert rows["unused"].kind == "never"
    for name, row in rows.items():
        if row.kind in ("cut", "branch"):
            assert Split(network, name).check(images(2, 64, 64)).bypass is (row.kind == "branch"), name
        assert not row.set or not Split(network, row.set).check(images(2, 64, 64)).bypass


def test_none_of_a_set_can_be_spared_where_no_member_depends_on_another():
    network = seeded(lambda: Branching(lambda a, b: (a, b), list))
    (found,) = {row.set for row in listed(network).values() if row.layer.startswith("parts:")}
    assert found == "parts:0+parts:1"
    for part in found.split("+"):
        assert Split(network, part).check(images()).bypass


def test_a_copy_of_the_image_is_in_no_set():
    def use(net, x):
        padded = nn.functional.pad(x / 2 + 1, (2, 2, 2, 2), mode="reflect")
        return net.b(net.act(net.a(x))) + padded[..., 2:-2, 2:-2]

    assert not any(row.set for row in listed(Step(use)).values())


@dataclasses.dataclass
class Pair:
    r: torch.Tensor
    s: torch.Tensor


@pytest.mark.parametrize(
    ("pack", "unpack", "names"),
    [
        (lambda a, b: (a, {"deep": b}), lambda p: [p[0], p[1]["deep"]], ("parts:0", "parts:1.deep")),
        (Pair, lambda p: [p.r, p.s], ("parts.r", "parts.s")),
    ],
)
def test_elements_are_listed_with_their_names(pack, unpack, names):
    network = seeded(lambda: Branching(pack, unpack))
    rows = listed(network)
    assert rows["parts"].kind == "no tensor"
    assert [rows[name].kind for name in names] == ["branch", "branch"]
    assert not Split(network, rows[names[0]].set).check(images()).bypass
    assert not Split(network, "+".join(names)).check(images()).bypass


class Judging(nn.Module):
    """Looks at the image before it goes on, as no graph can."""

    def __init__(self, look):
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(1, 1, 3, padding=1) for _ in range(3))
        self.look = look

    def forward(self, x):
        z = self.b(self.a(x)) + self.a(x)
        return self.c(z) if self.look(x) else self.c(-z)


@pytest.mark.parametrize(
    ("look", "why"),
    [
        (lambda x: bool(x.mean() > 1000), "local_scalar"),
        (lambda x: x.mean().item() > 1000, "local_scalar"),
        (lambda x: x.detach().numpy().mean() > 1000, "numpy"),
        (lambda x: torch.equal(x, x), "equal"),
    ],
)
def test_a_pass_that_cannot_be_followed_is_tried_and_says_so(look, why):
    network = seeded(lambda: Judging(look))
    listing = list_layers(network)
    assert why in listing.unfollowed
    assert [(row.layer, row.kind, row.shape) for row in listing.layers] == [
        ("a", "several", None), ("b", "branch", (1, 64, 64)), ("c", "cut", (1, 64, 64)),
    ]  # fmt: skip
    assert hook_count(network) == 0


def test_keys_come_first_whatever_they_stand_for():
    spec = Denoiser(
        "unet",
        UnetLike,
        Affine(20.0, 300.0),
        layers=(Layer("1", "enc1"), Layer("enc2", "cat#1"), Layer("deep", "bottom+relu#2+relu#1")),
        size_multiple=4,
    )
    listing = list_layers(load_denoiser(spec))
    assert [(row.layer, row.what, row.kind, row.shape) for row in listing.own] == [
        ("1", "enc1", "cut", (3, 64, 64)),
        ("enc2", "cat#1", "branch", (8, 32, 32)),
        ("deep", "bottom+relu#2+relu#1", "cut", None),
    ]
    assert listing.own[1].set == "relu#1+cat#1"
    names = Counter(row.layer for row in listing.layers)
    assert names["module:enc2"] == 1 and max(names.values()) == 1
    assert invkit.list_layers is list_layers


def test_no_row_for_each_image_is_said():
    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.same, self.last = nn.Identity(), nn.Conv2d(1, 1, 1)

        def forward(self, x):
            z = self.same(torch.relu(x).permute(2, 3, 0, 1).contiguous())
            return self.last(z.permute(2, 3, 0, 1))

    assert listed(Turned())["same"].kind == "no batch"
