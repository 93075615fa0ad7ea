import math

import pytest
import torch

from invkit.errors import InputError
from invkit.images.spectrum import closer_spectrum, power_spectrum, spectrum_distance


def white(n, seed, std=10.0, side=64):
    return torch.randn(n, 1, side, side, generator=torch.Generator().manual_seed(seed)) * std


def smooth(noise):
    return torch.nn.functional.avg_pool2d(noise, 3, stride=1, padding=1)


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


def test_distance_of_scaled_noise_is_its_gain_in_db():
    a = white(20, 1)
    distance = spectrum_distance(a, 2 * a)
    assert distance.value == pytest.approx(20 * math.log10(2))
    assert distance.low == pytest.approx(distance.high)
    assert spectrum_distance(a, a).value == 0.0


def test_interval_holds_the_value_and_closer_is_told():
    reference, same, blurred = white(24, 2), white(24, 3), smooth(white(24, 4))
    near, far = spectrum_distance(same, reference), spectrum_distance(blurred, reference)
    assert near.low <= near.value <= near.high * 1.01
    assert far.above(near)
    assert closer_spectrum(same, blurred, reference, groups=[i // 2 for i in range(24)]).high < 0
    assert closer_spectrum(blurred, same, reference).low > 0


def test_one_image_has_no_interval():
    assert not spectrum_distance(white(1, 5), white(1, 6)).known
    assert not closer_spectrum(white(1, 5), white(1, 6), white(1, 7)).known


def test_refuses_small_flat_and_unpaired_images():
    with pytest.raises(InputError, match="too many"):
        power_spectrum(white(1, 0, side=16))
    with pytest.raises(InputError, match="equal length"):
        spectrum_distance(white(2, 0), white(3, 0))
    with pytest.raises(InputError, match="no power"):
        spectrum_distance(white(1, 0), torch.ones(1, 1, 64, 64))
    with pytest.raises(InputError, match="shape"):
        power_spectrum(torch.ones(64, 64))
    with pytest.raises(InputError, match="at least one"):
        power_spectrum(torch.ones(0, 1, 64, 64))
