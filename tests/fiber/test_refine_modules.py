"""Refinement asks nothing of a network but a gradient: layers of every kind are certified by their own word, or not at all."""

import pytest
import torch
from torch import nn

from invkit.fiber.distance import activation_distance
from invkit.fiber.refine import refine
from invkit.split.split import Split

SIDE = 12


def seeded(n):
    return torch.Generator().manual_seed(n)


class Attention(nn.Module):
    """Self-attention over blocks of 4 x 4 pixels."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(16)
        self.attend = nn.MultiheadAttention(16, 2, batch_first=True)
        self.mix = nn.Identity()

    def forward(self, x):
        blocks = nn.functional.unfold(x, 4, stride=4).transpose(1, 2)
        tokens = self.norm(blocks)
        tokens = self.mix(blocks + self.attend(tokens, tokens, tokens, need_weights=False)[0])
        return nn.functional.fold(tokens.transpose(1, 2), x.shape[-2:], 4, stride=4)


class Pair(nn.Module):
    """Gives two tensors of different sizes at once."""

    def __init__(self):
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(1, 4, 4, stride=4)

    def forward(self, x):
        return (self.fine(x) / 30).tanh(), self.coarse(x) / 30


class Joined(nn.Module):
    def __init__(self):
        super().__init__()
        self.pair = Pair()
        self.last = nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, x):
        fine, coarse = self.pair(x)
        return self.last(fine) + nn.functional.interpolate(coarse.mean(1, keepdim=True), scale_factor=4.0)


class Viewed(nn.Module):
    """Flattens by `view`, which takes one memory format only."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 2, 3, padding=1), nn.Linear(2 * SIDE**2, 60)
        self.last = nn.Linear(60, SIDE**2)

    def forward(self, x):
        h = self.second(self.first(x).relu().view(len(x), -1))
        return self.last(h).view(len(x), 1, SIDE, SIDE)


def trained(*layers):
    """Return a sequence that ends in an image; its batch norms have seen data."""
    net = nn.Sequential(*layers)
    net.train()
    for _ in range(3):
        net(100 * torch.randn(8, 1, SIDE, SIDE, generator=seeded(3)))
    return net.eval()


NETWORKS = {
    "batch norm": (
        lambda: trained(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.SiLU(), nn.Conv2d(4, 1, 1)),
        "2",
    ),
    "group norm": (
        lambda: trained(nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.GELU(), nn.Conv2d(4, 1, 1)),
        "2",
    ),
    "strided": (
        lambda: trained(nn.Conv2d(1, 6, 4, stride=2, padding=1), nn.PReLU(), nn.ConvTranspose2d(6, 1, 2, 2)),
        "1",
    ),
    "pooled": (
        lambda: trained(
            nn.Conv2d(1, 4, 3, padding=1), nn.MaxPool2d(2), nn.AvgPool2d(2), nn.ConvTranspose2d(4, 1, 4, 4)
        ),
        "2",
    ),
    "in place": (
        lambda: trained(nn.Conv2d(1, 4, 3, padding=1), nn.LeakyReLU(0.1, inplace=True), nn.Conv2d(4, 1, 1)),
        "1",
    ),
    "attention": (Attention, "mix"),
    "two tensors": (Joined, "pair:0+pair:1"),
    "viewed": (Viewed, "second"),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_kind_of_layer_is_certified_by_its_own_word(kind):
    build, layer = NETWORKS[kind]
    torch.manual_seed(7)
    split = Split(build(), layer)
    x = 30 * torch.randn(1, 1, SIDE, SIDE, generator=seeded(0))
    proposals = x + 5 * torch.randn(4, 1, SIDE, SIDE, generator=seeded(1))
    z = split.phi(x)
    start = activation_distance(split.phi(proposals), z)
    epsilon = 1e-2 * float(start.mean())
    found = refine(split.phi, split.phi_grad, proposals, z, epsilon)
    after = activation_distance(split.phi(found.images), z)
    assert bool(found.certificates.holds.all()), after / epsilon
    torch.testing.assert_close(found.certificates.after, after, rtol=1e-3, atol=1e-6)
    moved = (found.images - proposals).flatten(1).norm(dim=1)
    assert (moved < 2 * (proposals - x).flatten(1).norm(dim=1)).all()


def test_dead_units_stay_where_the_gradient_cannot_reach():
    """Where every unit is dead for x and alive for the proposals there is a way back; the other way round there is none."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Conv2d(4, 1, 1))
    with torch.no_grad():
        net[0].weight.fill_(1.0)
        net[0].bias.fill_(-10.0)
    split = Split(net, "1")
    dead, alive = torch.zeros(1, 1, SIDE, SIDE), torch.full((1, 1, SIDE, SIDE), 25.0)
    back = refine(split.phi, split.phi_grad, alive, split.phi(dead), 1e-3)
    assert bool(back.certificates.holds.all())
    assert (back.images <= 10.01).all()
    lost = refine(split.phi, split.phi_grad, dead, split.phi(alive), 1e-3)
    assert not bool(lost.certificates.holds.any())
    assert torch.equal(lost.images, dead)
