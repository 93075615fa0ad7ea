"""Each stop of a path lies within its epsilon; for a projection the stops, and the spread they leave, are known in closed form."""

import pytest
import torch
from torch import nn

from invkit.errors import InputError
from invkit.fiber.distance import activation_distance
from invkit.fiber.path import refine_path
from invkit.fiber.refine import AIM

SIDE, KEPT, GAIN, SIGMA = 16, 96, 3.0, 20.0


def seeded(n):
    return torch.Generator().manual_seed(n)


@pytest.fixture(scope="module")
def rows():
    square = torch.randn(SIDE * SIDE, SIDE * SIDE, generator=seeded(0), dtype=torch.float64)
    return torch.linalg.qr(square).Q[:KEPT]


@pytest.fixture(scope="module")
def phi(rows):
    return lambda x: GAIN * x.flatten(1) @ rows.T


@pytest.fixture(scope="module")
def x():
    return 100 * torch.randn(1, 1, SIDE, SIDE, generator=seeded(1), dtype=torch.float64)


@pytest.fixture(scope="module")
def proposals(x):
    return x + SIGMA * torch.randn(400, 1, SIDE, SIDE, generator=seeded(2), dtype=torch.float64)


LEVELS = (30.0, 10.0, 3.0, 1.0, 0.1, 0.001)


@pytest.fixture(scope="module")
def stops(phi, x, proposals):
    return list(refine_path(phi, phi, proposals, phi(x), LEVELS))


def test_each_stop_is_the_nearest_image_at_its_distance(rows, phi, x, proposals, stops):
    """The kept part of x* - x shrinks along itself until the distance is what was aimed at; the rest stays."""
    for level, stop in zip(LEVELS, stops, strict=True):
        off = (proposals - x).flatten(1)
        kept = off @ rows.T
        distance = GAIN * kept.norm(dim=1) / KEPT**0.5
        share = (AIM * level / distance).clamp(max=1)
        share[distance <= level] = 1
        expected = x.flatten(1) + off - ((1 - share)[:, None] * kept) @ rows
        torch.testing.assert_close(stop.images.flatten(1), expected, rtol=0, atol=1e-6)
        assert bool(stop.certificates.holds.all())


def test_the_spread_at_epsilon_is_what_the_projection_leaves(stops):
    """n - m free directions keep sigma each; in the m others, epsilon leaves AIM epsilon / gain."""
    total = SIDE * SIDE
    for level, stop in zip(LEVELS, stops, strict=True):
        left = min(SIGMA, AIM * level / GAIN)
        expected = ((total - KEPT) / total * SIGMA**2 + KEPT / total * left**2) ** 0.5
        spread = stop.images.std(0).square().mean().sqrt().item()
        assert spread == pytest.approx(expected, rel=0.01)


def test_certificates_tell_of_the_whole_way(phi, x, proposals, stops):
    before = activation_distance(phi(proposals), phi(x))
    for stop in stops:
        torch.testing.assert_close(stop.certificates.before, before)
        moved = (stop.images - proposals).flatten(1).square().mean(1).sqrt()
        torch.testing.assert_close(stop.certificates.moved, moved)
        after = activation_distance(phi(stop.images), phi(x))
        torch.testing.assert_close(stop.certificates.after, after, rtol=1e-6, atol=1e-9)
    for name in ("steps", "products"):
        counts = torch.stack([getattr(stop.certificates, name) for stop in stops])
        assert (counts.diff(dim=0) >= 0).all()
        assert (counts[-1] > counts[0]).all()


def test_a_path_in_a_network_falls_to_every_epsilon():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.LeakyReLU(0.2), nn.Conv2d(6, 3, 5, padding=2)
    ).double()
    net.requires_grad_(False)
    x = torch.randn(1, 1, 20, 20, generator=seeded(1)).double()
    proposals = x + torch.randn(5, 1, 20, 20, generator=seeded(2))
    with torch.no_grad():
        z = net(x)
    start = float(activation_distance(net(proposals), z).mean())
    levels = [start * 10**-k for k in (0.5, 1.0, 2.0, 3.0)]
    spreads = []
    for level, stop in zip(levels, refine_path(net, net, proposals, z, levels), strict=True):
        distance = activation_distance(net(stop.images), z)
        assert (distance <= 1.001 * level).all()
        spreads.append(stop.images.std(0).square().mean().sqrt().item())
    assert spreads == sorted(spreads, reverse=True)
    assert spreads[-1] < spreads[0] / 3


def test_epsilons_must_fall(phi, x, proposals):
    with pytest.raises(InputError, match="decreasing epsilons"):
        list(refine_path(phi, phi, proposals, phi(x), (1.0, 1.0)))
