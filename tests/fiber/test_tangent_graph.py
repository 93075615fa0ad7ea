"""Traced derivatives hold what they need and no more, and are still the derivatives."""

import pytest
import torch
from torch import nn

from invkit.fiber.tangent import Tangent

CONVOLUTION = torch.ops.aten.convolution.default
BACKWARD = torch.ops.aten.convolution_backward.default


class Sums(nn.Module):
    """Sums and differences of parts that depend on the image, that do not, and that vanish."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)
        self.scale = nn.Parameter(torch.tensor([[[0.5]], [[2.0]], [[-1.0]]]))
        self.norm = nn.BatchNorm2d(3)
        self.linear = nn.Linear(8, 8)

    def forward(self, x):
        h = self.norm(self.conv(x)) * self.scale
        other = torch.zeros_like(h) - torch.tanh(h)
        return self.linear(h + other - self.scale) + x.square() - torch.add(self.scale, h, alpha=2)


def graphs(network, x):
    tangent = Tangent(network)
    tangent.at(x)
    (found,) = tangent._graphs.values()
    assert found is not None
    return found


def test_a_network_of_convolutions_is_traced_with_one_of_each():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()
    )
    x = torch.randn(2, 1, 8, 8)
    of_image, of_p, of_q = graphs(network.eval().requires_grad_(False), x)
    targets = [[node.target for node in graph.graph.nodes] for graph in (of_image, of_p, of_q)]
    assert [each.count(CONVOLUTION) for each in targets] == [2, 2, 0]
    assert [each.count(BACKWARD) for each in targets] == [0, 0, 2]
    assert not any(torch.ops.aten.add.Tensor in each for each in targets)
    # What a product needs of the image is where each ReLU is open: two activations, not the sums before them.
    for needed in of_image(x):
        kept = [part for part in needed if part.shape == (2, 4, 8, 8)]
        assert len(kept) == 2
        assert all(bool((part >= 0).all()) for part in kept)


@pytest.mark.parametrize("frozen", [True, False])
def test_sums_keep_every_term_that_is_not_zero(frozen):
    torch.manual_seed(0)
    network = Sums().double().eval().requires_grad_(not frozen)
    x, p = torch.randn(2, 1, 8, 8).double(), torch.randn(2, 1, 8, 8).double()
    graphs(network, x)
    products = Tangent(network).at(x)
    (found,) = products.forward(p)
    _, wanted = torch.func.jvp(network, (x,), (p,))
    torch.testing.assert_close(found, wanted)
