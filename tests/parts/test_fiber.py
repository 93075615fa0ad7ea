"""Errors of a row are those of its own patch, and reach the code with the right gradient."""

import pytest
import torch
from torch import nn

import invkit
from invkit.data.patches import PatchSampler
from invkit.data.slices import load_slices
from invkit.fiber.distance import activation_distance
from invkit.parts.fiber import FiberRows

SIDE, BATCH = 16, 4


class Linear:
    """A decoder of 5 numbers."""

    def __init__(self):
        self.basis = 50 * torch.randn(5, SIDE * SIDE, generator=torch.Generator().manual_seed(0)).double()

    def decode(self, codes):
        return (codes @ self.basis.to(codes)).view(-1, 1, SIDE, SIDE)


@pytest.fixture(scope="module")
def rows():
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Softplus(beta=0.01), nn.Conv2d(3, 1, 1))
    split = invkit.Split(invkit.load(net), "1")
    sampler = PatchSampler(load_slices(["phantoms:4"]), SIDE, seed=2)
    return FiberRows(split, Linear(), sampler, batch=BATCH, scale=0.3, device="cpu")


def test_a_row_is_compared_with_its_own_patch(rows):
    drawn = torch.cat([rows.sampler.batch(step, BATCH).x for step in range(2)])
    codes = torch.randn(3, 5, generator=torch.Generator().manual_seed(3))
    chosen = [6, 0, 3]
    images = rows.vae.decode(codes)
    expected = activation_distance(rows.split.phi(images), rows.split.phi(drawn[chosen])) / 0.3
    torch.testing.assert_close(rows(codes, chosen).double(), expected, rtol=1e-5, atol=0)


def test_its_gradient_is_that_of_finite_differences(rows):
    code = (0.05 * torch.randn(1, 5, generator=torch.Generator().manual_seed(4))).requires_grad_()
    (gradient,) = torch.autograd.grad(rows(code, [1]).sum(), code)
    assert gradient.abs().max() > 1
    h = 1e-2
    steps = h * torch.eye(5)
    with torch.no_grad():
        slopes = [(rows(code + step, [1]) - rows(code - step, [1])) / (2 * h) for step in steps[:, None]]
    torch.testing.assert_close(gradient[0], torch.cat(slopes), rtol=0.03, atol=0.02)
