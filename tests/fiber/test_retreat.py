"""Refinement behind a threshold: from nearer to the image, where no gradient leads back to the fiber."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from invkit.fiber.refine import refine
from invkit.fiber.retreat import RETREATS, retreating
from invkit.split.split import Split

TAU, EPSILON = 10.0, 0.01


class Threshold(nn.Module):
    """Each pixel is soft-thresholded; what lies within tau of 0 is erased, and has no gradient."""

    def forward(self, x):
        return functional.softshrink(x, TAU)


def image():
    return 40.0 + 25.0 * torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def refined(proposals, epsilon=EPSILON, x=None):
    x = image() if x is None else x
    split = Split(nn.Sequential(Threshold(), nn.Identity()), "0")
    attempts = []

    def attempt(begun):
        attempts.append(begun)
        return refine(split.phi, split.phi_grad, begun, split.phi(x), epsilon)

    found, share = retreating(attempt, x, proposals)
    return split, found, share, attempts


def test_what_falls_below_the_threshold_is_reached_from_nearer():
    x = image()
    x[0, 0, 0, 0], x[0, 0, 0, 1] = 50.0, 13.0
    proposals = x.repeat(3, 1, 1, 1)
    proposals[0, 0, 1, 1] += 0.5
    # Half of 50 is outside of what is erased; of 13 it takes seven eighths.
    proposals[1, 0, 0, 0] = proposals[2, 0, 0, 1] = 0.0
    split, found, share, attempts = refined(proposals, x=x)
    assert share.tolist() == [1.0, 0.5, 0.125]
    assert [len(begun) for begun in attempts] == [3, 2, 1, 1]
    assert found.certificates.holds.all()
    assert (split.phi(found.images) - split.phi(x)).square().mean((1, 2, 3)).sqrt().max() <= EPSILON
    before = (split.phi(proposals) - split.phi(x)).square().mean((1, 2, 3)).sqrt()
    torch.testing.assert_close(found.certificates.before.float(), before)
    moved = (found.images - proposals).square().mean((1, 2, 3)).sqrt()
    torch.testing.assert_close(found.certificates.moved, moved)


def test_all_that_is_certified_lies_in_the_box_known_in_closed_form():
    x = image()
    random = torch.Generator().manual_seed(1)
    proposals = x + 60.0 * torch.randn(16, 1, 8, 8, generator=random)
    _, found, share, _ = refined(proposals)
    holds = found.certificates.holds
    assert holds.sum() >= 8
    assert (share[holds] < 1).any()
    erased = (x.abs() <= TAU).expand_as(found.images[holds])
    assert (found.images[holds][erased].abs() <= TAU + 10 * EPSILON).all()
    rest = (found.images[holds] - x)[~erased].abs()
    assert rest.square().mean().sqrt() <= 1.1 * EPSILON


def test_what_is_never_reached_stays_as_the_first_attempt_left_it():
    x = torch.full((1, 1, 4, 4), TAU + 0.001)
    proposals = torch.zeros(2, 1, 4, 4)
    _, found, share, attempts = refined(proposals, 1e-6, x)
    assert not found.certificates.holds.any()
    assert share.tolist() == [1.0, 1.0]
    assert torch.equal(found.images, proposals)
    assert len(attempts) == RETREATS + 1


def test_nothing_is_tried_again_where_all_is_reached():
    x = image()
    _, found, share, attempts = refined(x + 0.5)
    assert len(attempts) == 1
    assert found.certificates.holds.all() and share.tolist() == [1.0]


@pytest.mark.parametrize("count", [1, 5])
def test_attempts_are_counted(count):
    x = image()
    proposals = x + 60.0 * torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    _, found, share, attempts = refined(proposals)
    assert len(attempts) > 1
    assert (found.certificates.steps[share < 1] >= 2).all()
