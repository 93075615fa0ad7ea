"""What is called certified is certified: Phi itself says so, and what cannot be refined is not shown as if it were."""

import pytest
import torch
from torch import nn

import invkit
from invkit.pipeline.certify import certify, epsilon_of
from invkit.sampling.distance import activation_distance
from invkit.sampling.sampler import Reference


def network():
    torch.manual_seed(2)
    return nn.Sequential(nn.Conv2d(1, 4, 5, padding=2), nn.ReLU(), nn.Conv2d(4, 1, 5, padding=2))


def bench(layer, net=None):
    denoiser = invkit.load(net or network())
    split = invkit.Split(denoiser, layer)
    random = torch.Generator().manual_seed(0)
    x = 100 * torch.randn(1, 1, 24, 24, generator=random)
    reconstruction = x + 3 * torch.randn(1, 1, 24, 24, generator=random)
    draws = reconstruction + 2 * torch.randn(10, 1, 24, 24, generator=random)
    scale = float(activation_distance(split.phi(draws), split.phi(x)).mean())
    reference = Reference(split, split.phi(x), scale)
    return denoiser, reference, x, reconstruction, draws


@pytest.mark.parametrize("layer", ["0", "2", "output"])
def test_certified_samples_lie_within_epsilon_of_the_fiber(layer):
    denoiser, reference, x, reconstruction, draws = bench(layer)
    found = certify(draws, reference, denoiser, x, reconstruction, epsilon=1e-3, seed=0, image=0)
    assert len(found.images) == 10
    distance = activation_distance(reference.split.phi(found.samples), reference.z) / reference.scale
    assert len(found.samples)
    assert (distance <= 1.01e-3).all()
    rows = found.rows(4)
    assert [row["sample"] for row in rows] == list(range(10))
    assert {row["image"] for row in rows} == {4}
    assert sum(row["certified"] for row in rows) == len(found.samples)
    before = activation_distance(reference.split.phi(found.proposals), reference.z) / reference.scale
    torch.testing.assert_close(found.certificates.before, before, rtol=1e-4, atol=0)
    f_error = (denoiser(found.images) - denoiser(x)).flatten(1).square().mean(1).sqrt()
    torch.testing.assert_close(found.f_error, f_error, rtol=1e-3, atol=1e-3)


def test_batches_do_not_decide_what_is_found():
    denoiser, reference, x, reconstruction, draws = bench("0")
    whole = certify(draws, reference, denoiser, x, reconstruction, epsilon=1e-3, seed=0, image=0)
    part = certify(draws[:3], reference, denoiser, x, reconstruction, epsilon=1e-3, seed=0, image=0)
    torch.testing.assert_close(part.images, whole.images[:3], atol=0.05, rtol=0)


def test_without_a_gradient_nothing_is_refined():
    class Steps(nn.Module):
        def forward(self, x):
            return (x / 10).round().detach() * 10

    net = nn.Sequential(Steps(), nn.Conv2d(1, 1, 1))
    denoiser, reference, x, reconstruction, draws = bench("0", net)
    assert certify(draws, reference, denoiser, x, reconstruction, epsilon=1e-3, seed=0, image=0) is None


def test_epsilon_is_small_against_scale_and_noise():
    assert epsilon_of(0.5) == 1e-3
    assert epsilon_of(0.01) == pytest.approx(2e-4)
