"""Refined samples lie in the fiber; for a linear layer they are the nearest such images."""

import pytest
import torch
from torch import nn

from invkit.errors import SplitError
from invkit.fiber.distance import activation_distance
from invkit.fiber.refine import refine
from invkit.split.split import Split


def seeded(n):
    return torch.Generator().manual_seed(n)


def linear_split(outputs=20, size=6):
    torch.manual_seed(3)
    return Split(
        nn.Sequential(nn.Flatten(), nn.Linear(size * size, outputs), Image(size, outputs)).double(), "1"
    )


class Image(nn.Module):
    """Makes an image of anything, so that the network keeps its contract."""

    def __init__(self, size, channels):
        super().__init__()
        self.size, self.last = size, nn.Linear(channels, size * size)

    def forward(self, h):
        return self.last(h).view(-1, 1, self.size, self.size)


def convolutional():
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 1, 3, padding=1),
    )


def test_for_a_linear_layer_it_is_the_orthogonal_projection():
    split = linear_split()
    x = torch.randn(1, 1, 6, 6, generator=seeded(0)).double()
    proposals = torch.randn(4, 1, 6, 6, generator=seeded(1)).double()
    z = split.phi(x)
    found = refine(split.phi, split.phi_grad, proposals, z, 1e-9)
    assert bool(found.certificates.holds.all())
    a = split.denoiser.network[1].weight
    expected = proposals.flatten(1) + (z - split.phi(proposals)) @ torch.linalg.pinv(a).T
    torch.testing.assert_close(found.images.flatten(1), expected, atol=1e-7, rtol=0)


@pytest.mark.parametrize("layer", ["0", "2", "output", "0+2"])
def test_a_certificate_is_what_phi_itself_says(layer):
    split = Split(convolutional(), layer)
    x = torch.randn(1, 1, 16, 16, generator=seeded(0))
    proposals = x + 0.3 * torch.randn(5, 1, 16, 16, generator=seeded(1))
    z = split.phi(x)
    start = activation_distance(split.phi(proposals), z)
    epsilon = 1e-3 * float(start.mean())
    found = refine(split.phi, split.phi_grad, proposals, z, epsilon)
    certificates = found.certificates
    torch.testing.assert_close(certificates.before, start, rtol=1e-5, atol=0)
    after = activation_distance(split.phi(found.images), z)
    torch.testing.assert_close(certificates.after, after, rtol=1e-3, atol=1e-9)
    assert torch.equal(certificates.holds, after <= epsilon)
    # As many equations as pixels and a kink at each: the whole of this network is not solved to a thousandth.
    assert bool(certificates.holds.all()) == (layer != "output")
    assert (certificates.after < certificates.before / 10).all()
    moved = (found.images - proposals).flatten(1).square().mean(1).sqrt()
    torch.testing.assert_close(certificates.moved, moved)
    assert (certificates.steps > 0).all()
    assert (certificates.products >= certificates.steps).all()


def test_what_is_in_the_fiber_already_does_not_move():
    split = Split(convolutional(), "2")
    x = torch.randn(1, 1, 16, 16, generator=seeded(0))
    found = refine(split.phi, split.phi_grad, x.expand(2, -1, -1, -1), split.phi(x), 1e-6)
    assert torch.equal(found.images, x.expand(2, -1, -1, -1))
    assert found.certificates.steps.tolist() == [0, 0]


def test_samples_of_a_batch_do_not_know_of_each_other():
    split = Split(convolutional(), "2")
    x = torch.randn(1, 1, 16, 16, generator=seeded(0))
    proposals = x + torch.tensor([0.01, 0.3, 1.0]).view(-1, 1, 1, 1) * torch.randn(
        3, 1, 16, 16, generator=seeded(1)
    )
    z = split.phi(x)
    together = refine(split.phi, split.phi_grad, proposals, z, 1e-4)
    for index in range(3):
        alone = refine(split.phi, split.phi_grad, proposals[index : index + 1], z, 1e-4)
        torch.testing.assert_close(together.images[index : index + 1], alone.images, atol=1e-4, rtol=0)


def test_where_no_image_can_reach_z_the_certificate_says_no():
    """A ReLU gives no negative number, so this z has no fiber at all."""
    split = Split(convolutional(), "1")
    proposals = torch.randn(2, 1, 12, 12, generator=seeded(1))
    found = refine(split.phi, split.phi_grad, proposals, -torch.ones_like(split.phi(proposals[:1])), 1e-3)
    assert not bool(found.certificates.holds.any())
    assert (found.certificates.after <= found.certificates.before).all()


def test_a_layer_without_gradient_is_an_error():
    class Round(nn.Module):
        def forward(self, x):
            return x.detach().round()

    split = Split(nn.Sequential(Round(), nn.Conv2d(1, 1, 1)), "0")
    proposals = torch.randn(2, 1, 8, 8)
    with pytest.raises(SplitError, match="no gradient"):
        refine(split.phi, split.phi_grad, proposals, split.phi(proposals[:1] + 1), 1e-3)
