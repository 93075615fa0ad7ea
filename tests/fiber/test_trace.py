"""A trace is the function for other inputs of the same shapes, as torch's own tracer has it, without torch's compiler."""

import gc
import subprocess
import sys
import weakref

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from invkit.fiber.trace import traced


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Network(nn.Module):
    """Weights, a buffer, several results of one operation, lists of tensors, in-place activations, and results that are parts."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.pool = nn.MaxPool2d(2)
        self.shift = torch.tensor(0.5)

    def forward(self, x, y):
        h = nn.functional.relu_(self.norm(self.conv(x))) + self.shift
        a, b = torch.cat([h, h.flip(1)], 1).chunk(2, 1)
        values, places = a.max(dim=1)
        h = self.pool(b).flatten(1).sum(1)
        return values + places, h, y * torch.arange(3.0)


def test_a_graph_is_the_function_and_that_of_torch():
    torch.manual_seed(0)
    network = Network().eval()
    with torch.no_grad():
        first = random(2, 1, 8, 8), random(3, seed=1)
        graph, wanted = traced(network, *first), make_fx(network)(*first)
        for seed in range(3):
            inputs = random(2, 1, 8, 8, seed=seed), random(3, seed=seed + 5)
            expected = network(*inputs)
            for found in (graph(*inputs), wanted(*inputs)):
                assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    ours, theirs = (
        [str(node.target) for node in g.graph.nodes if node.op == "call_function"] for g in (graph, wanted)
    )
    assert [name for name in ours if "detach" not in name] == [
        name for name in theirs if "detach" not in name
    ]


def test_autograd_within_is_traced_through():
    def slope(x):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (found,) = torch.autograd.grad((x**3 + x.tanh()).sum(), x)
        return (found.detach(),)

    with torch.no_grad():
        graph = traced(slope, random(5))
        x = random(5, seed=1)
        torch.testing.assert_close(graph(x)[0], 3 * x**2 + 1 - x.tanh() ** 2)


@pytest.mark.parametrize(
    "look",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).any()),
        lambda x: x[x > 0].sum(),
        lambda x: x.nonzero().sum(),
    ],
    ids=["item", "bool", "mask", "nonzero"],
)
def test_values_of_the_input_cannot_be_looked_at(look):
    with pytest.raises(RuntimeError, match="looks at values"):
        traced(lambda x: (x * look(x),), random(4))


def test_values_of_constants_can():
    factor = torch.tensor([1.0, 3.0])
    graph = traced(lambda x: (x * factor.max().item() if bool((factor > 2).any()) else x,), random(4))
    assert torch.equal(graph(torch.ones(4))[0], torch.full((4,), 3.0))


def test_what_is_changed_in_place_is_the_changed_one_from_there_on():
    def function(x):
        y = x.clone()
        y.mul_(2)
        y += x
        return (y,)

    graph = traced(function, random(4))
    assert torch.equal(graph(torch.ones(4))[0], torch.full((4,), 3.0))


def test_a_trace_holds_no_tensor_but_constants():
    kept = []

    def function(x):
        y = x * 2
        kept.append(weakref.ref(y))
        z = y + torch.ones(4)
        kept.append(weakref.ref(z))
        return (z * 3,)

    graph = traced(function, random(4))
    gc.collect()
    assert [ref() for ref in kept] == [None, None]
    assert torch.equal(graph(torch.ones(4))[0], torch.full((4,), 9.0))


def test_linearising_does_not_import_the_compiler():
    code = (
        "import sys, torch; from torch import nn; from invkit.fiber.linearise import Linearisation;"
        "net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True)); x = torch.randn(2, 1, 8, 8);"
        "at = Linearisation(lambda x: net((x - 1.5) / 2), x); (z,) = at.forward(x); at.transposed((z,));"
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
