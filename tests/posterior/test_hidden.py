"""Where in frequency the power of noise lies, for waves and for white noise."""

import math

import pytest
import torch

from invkit.posterior.hidden import high_share


def wave(frequency, size=64):
    return torch.cos(2 * math.pi * frequency * torch.arange(size)).expand(1, 1, size, size)


@pytest.mark.parametrize(("frequency", "share"), [(0.1, 0.0), (0.4, 1.0)])
def test_a_wave_lies_on_one_side(frequency, share):
    assert high_share([wave(frequency)]) == pytest.approx(share, abs=1e-3)


def test_white_noise_has_the_share_of_the_area():
    """Beyond a circle of radius 1/4 in the square of side 1 there is 1 - pi / 16 of it."""
    noise = torch.randn(20, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    assert high_share([noise[:10], noise[10:]]) == pytest.approx(1 - math.pi / 16, abs=0.01)


def test_nothing_has_no_share():
    assert high_share([torch.zeros(2, 1, 32, 32)]) == 0
