import math

import pytest
import torch
from torch import nn

from invkit.errors import InputError
from invkit.fiber.distance import activation_distance
from invkit.fiber.scale import (
    activation_scale,
    dose_noise_distance,
)


def images(n, side=8, seed=0, std=100.0):
    return torch.randn(n, 1, side, side, generator=torch.Generator().manual_seed(seed)) * std


def conv(seed=0):
    layer = nn.Conv2d(1, 3, 3)
    generator = torch.Generator().manual_seed(seed)
    for parameter in layer.parameters():
        parameter.data.normal_(generator=generator)
    return lambda x: layer(x).detach()


def test_a_random_other_image_has_error_one():
    phi, patches = conv(), images(200)
    scale = activation_scale(phi, patches, pairs=512)
    others = activation_distance(phi(patches[1:]), phi(patches[:-1])) / scale
    assert others.square().mean().sqrt().item() == pytest.approx(1.0, abs=0.05)


def test_scale_agrees_with_all_pairs_and_not_with_the_batch():
    phi, patches = conv(), images(12)
    z = phi(patches).double().flatten(1)
    exact = math.sqrt((z[:, None] - z[None]).square().mean(2).sum().item() / (12 * 11))
    measured = activation_scale(phi, patches, pairs=600)
    assert measured == pytest.approx(exact, rel=0.03)
    assert activation_scale(phi, patches, pairs=600, batch=5) == pytest.approx(measured, rel=1e-6)
    assert activation_scale(phi, patches, pairs=20, seed=1) != activation_scale(
        phi, patches, pairs=20, seed=2
    )


def test_pairs_are_never_one_patch_twice():
    assert activation_scale(lambda x: x, images(2), pairs=50) == pytest.approx(
        (images(2)[0] - images(2)[1]).square().mean().sqrt().item()
    )


def test_scale_holds_few_activations_at_once():
    largest = 0

    def phi(x):
        nonlocal largest
        largest = max(largest, len(x))
        return x

    activation_scale(phi, images(40), pairs=64, batch=4)
    assert largest == 4


def test_a_constant_activation_has_scale_zero():
    assert activation_scale(torch.zeros_like, images(4), pairs=8) == 0.0


def test_noise_distance_of_a_linear_layer_is_known():
    y = images(3, side=64)
    noise = torch.randn(6, *y.shape, generator=torch.Generator().manual_seed(1)) * 30.0
    eta = dose_noise_distance(lambda x: 2 * x, y, noise)
    assert eta.shape == (3,)
    torch.testing.assert_close(
        eta, torch.full((3,), 2 * 30 * math.sqrt(2), dtype=torch.float64), rtol=0.02, atol=0
    )
    torch.testing.assert_close(dose_noise_distance(lambda x: 2 * x, y, noise, scale=10.0), eta / 10)
    both = dose_noise_distance(lambda x: (2 * x, 2 * x), y, noise)
    torch.testing.assert_close(both, eta)


def test_two_draws_give_their_distance():
    y, noise = images(2), torch.stack([images(2, seed=1), images(2, seed=2)])
    expected = (noise[0] - noise[1]).double().square().flatten(1).mean(1).sqrt()
    torch.testing.assert_close(dose_noise_distance(lambda x: x, y, noise), expected, rtol=1e-5, atol=0)


def test_refuses_too_little():
    with pytest.raises(InputError):
        activation_scale(lambda x: x, images(1))
    with pytest.raises(InputError):
        dose_noise_distance(lambda x: x, images(1), images(1)[None])
