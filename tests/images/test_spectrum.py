import math

import pytest
import torch

from invkit.errors import InputError
from invkit.images.spectrum import power_spectrum


def white(n, seed, std=10.0, side=64):
    return torch.randn(n, 1, side, side, generator=torch.Generator().manual_seed(seed)) * std


def test_white_noise_is_flat_at_its_variance():
    spectrum = power_spectrum(white(60, 0) + 300)
    assert spectrum.frequency == pytest.approx([0.025 + 0.05 * band for band in range(10)])
    # the lowest band loses what the mean takes off
    assert spectrum.power[1:] == pytest.approx([100.0] * 9, rel=0.05)


def test_a_wave_lands_in_its_band():
    phase = torch.arange(64) * (2 * math.pi * 0.28)
    wave = torch.sin(phase).expand(64, 64)[None, None]
    power = torch.tensor(power_spectrum(wave).power)
    assert power.argmax().item() == 5
    assert power[5] > 100 * power[[0, 1, 2, 3, 8, 9]].max()


def test_refuses_small_images_other_shapes_and_none():
    with pytest.raises(InputError, match="too many"):
        power_spectrum(white(1, 0, side=16))
    with pytest.raises(InputError, match="shape"):
        power_spectrum(torch.ones(64, 64))
    with pytest.raises(InputError, match="at least one"):
        power_spectrum(torch.ones(0, 1, 64, 64))
