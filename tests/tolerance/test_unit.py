"""S against its closed form, and its floor."""

import pytest
import torch
from linear_layer import LinearLayer
from torch import nn

from invkit.noise.covariance import NoiseCovariance
from invkit.split.split import Split
from invkit.tolerance.unit import FLOOR, rounding_of, unit_of


def noise_of(covariance, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return lambda count: covariance.draws(count, generator)


def test_s_of_a_linear_layer_is_that_of_the_matrices():
    layer = LinearLayer()
    variance = 2 * (layer.jacobian @ layer.matrix @ layer.jacobian.T).diag().view(layer.unit.s[0].shape)
    found = unit_of(layer.split, layer.x, noise_of(layer.covariance), draws=400).s[0]
    mean = torch.nn.functional.avg_pool2d(variance, 9, stride=1, padding=4, count_include_pad=False).sqrt()
    assert torch.allclose(found.double(), mean, rtol=0.06)


def test_a_repeat_scan_of_the_identity_is_root_two_of_the_noise():
    split = Split(nn.Identity(), "input")
    noise = NoiseCovariance(torch.full((48, 48), 20.0))
    found = unit_of(split, torch.zeros(1, 1, 48, 48), noise_of(noise))
    assert found.s[0].square().mean().sqrt() == pytest.approx(20 * 2**0.5, rel=0.03)
    assert found.floored == 0


class HalfDead(nn.Module):
    """A channel that is never more than 0 beside one that lives."""

    def __init__(self):
        super().__init__()
        self.both = nn.Conv2d(1, 2, 1)
        with torch.no_grad():
            self.both.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
            self.both.bias.copy_(torch.tensor([0.123, -1e6]))
        self.act = nn.ReLU()
        self.out = nn.Conv2d(2, 1, 1)

    def forward(self, x):
        return self.out(self.act(self.both(x)))


def test_a_dead_channel_has_a_hundred_times_the_rounding():
    split = Split(HalfDead(), "act")
    x = 1000 + 100 * torch.rand(1, 1, 32, 32)
    (error,) = rounding_of(split, x)
    assert 1e-6 < error < 1e-3
    found = unit_of(split, x, noise_of(NoiseCovariance(torch.full((32, 32), 20.0))))
    assert torch.allclose(found.s[0][:, 1], torch.tensor(FLOOR * found.rounding[0]))
    assert found.floored == pytest.approx(0.5)


def test_a_layer_that_never_changes_has_some_unit():
    split = Split(nn.Identity(), "const")
    found = unit_of(split, torch.zeros(1, 1, 16, 16), noise_of(NoiseCovariance(torch.full((16, 16), 20.0))))
    assert (found.s[0] == 1).all()
