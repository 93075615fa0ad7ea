"""The split of differences against mixtures whose shares are known."""

import math

import numpy as np
import pytest
import torch

from invkit.data.dose.texture import noise_texture
from invkit.errors import InputError
from invkit.measures.noise_split import split_noise_anatomy
from invkit.statistics.intervals import Interval
from invkit.statistics.tree import as_json

SIZE = 48


def ct_noise(n, level, seed):
    """Return differences of two noise realisations, `(n, 1, H, W)`, of standard deviation sqrt(2) level."""
    random = torch.Generator().manual_seed(seed)
    return level * math.sqrt(2) * noise_texture(n, SIZE, SIZE, generator=random)


def wave(amplitude, cycles):
    row = amplitude * torch.cos(2 * math.pi * cycles * torch.arange(SIZE) / SIZE)
    return row.expand(1, 1, SIZE, SIZE)


def test_shares_of_noise_and_a_wave():
    differences = [ct_noise(24, 20, seed) + wave(12, 2) for seed in range(4)]
    noise = [ct_noise(96, 20, 100 + seed) for seed in range(4)]
    split = split_noise_anatomy(differences, noise, ["a", "b", "c", "d"])
    anatomy, level = 12**2 / 2, 2 * 20**2
    assert split.anatomy.value == pytest.approx(math.sqrt(anatomy), rel=0.15)
    assert split.share.value == pytest.approx(anatomy / (anatomy + level), rel=0.25)
    assert split.total.value**2 == pytest.approx(split.noise.value**2 + split.anatomy.value**2)
    assert split.share.low <= split.share.value <= split.share.high
    assert split.found
    assert int(np.argmax(split.anatomy_power)) == 1  # 2 / 48 cycles per pixel


def test_powers_add_up_to_the_mean_square():
    differences = [ct_noise(3, 10, 1) + 5, ct_noise(3, 30, 2)]
    split = split_noise_anatomy(differences, [ct_noise(12, 10, 3), ct_noise(12, 30, 4)])
    square = np.mean([part.double().square().mean().item() for part in differences])
    assert sum(split.difference_power) == pytest.approx(square, rel=1e-5)
    assert split.total.value == pytest.approx(math.sqrt(square), rel=1e-5)
    assert sum(split.anatomy_power) == pytest.approx(split.anatomy.value**2, rel=1e-9)


@pytest.mark.parametrize("level", [20, 8])
def test_noise_up_to_its_level_is_no_anatomy(level):
    found = 0
    for seed in range(8):
        differences = [ct_noise(6, level, 10 * seed + image) for image in range(4)]
        noise = [ct_noise(24, 20, 500 + 10 * seed + image) for image in range(4)]
        split = split_noise_anatomy(differences, noise, draws=200)
        found += split.found
        assert split.share.value < 0.1
    assert found <= 1


def test_noise_of_some_bands_alone_is_noise():
    differences = ct_noise(24, 20, 1)
    spectrum = torch.fft.rfft2(differences)
    radius = torch.hypot(torch.fft.fftfreq(SIZE)[:, None], torch.fft.rfftfreq(SIZE)[None])
    high = torch.fft.irfft2(spectrum * (radius > 0.2), s=(SIZE, SIZE))
    split = split_noise_anatomy([high], [ct_noise(96, 20, 2)], draws=200)
    assert split.share.value < 0.02
    assert not split.found


def test_a_change_of_the_mean_is_anatomy():
    split = split_noise_anatomy([torch.full((4, 1, SIZE, SIZE), 7.0)], [ct_noise(32, 3, 0)], draws=100)
    assert split.anatomy.value == pytest.approx(7.0, rel=0.01)
    assert split.frequency[0] == 0.0
    assert split.found


def test_what_the_noise_hides_is_a_lower_bound():
    differences = [ct_noise(48, 10, 1) + wave(12, 2)]
    split = split_noise_anatomy(differences, [ct_noise(96, 20, 2)], draws=100)
    assert 0 < split.anatomy.value**2 < 12**2 / 2


def test_json_has_the_verdict_and_the_bands():
    split = split_noise_anatomy([ct_noise(2, 10, 1)], [ct_noise(8, 10, 2)], bands=4, draws=50)
    record = as_json(split)
    assert len(record["frequency"]) == len(record["anatomy_power"]) == 5
    assert record["found"] is split.found
    assert Interval.of(record["share"]) == split.share


def test_refuses_what_does_not_match():
    one = torch.zeros(2, 1, SIZE, SIZE)
    with pytest.raises(InputError, match="1 and 2 images"):
        split_noise_anatomy([one], [one, one])
    with pytest.raises(InputError, match="two noise differences"):
        split_noise_anatomy([one], [one[:1]])
    with pytest.raises(InputError, match="one size"):
        split_noise_anatomy([one], [torch.zeros(2, 1, 32, 32)])
    with pytest.raises(InputError, match="not finite"):
        split_noise_anatomy([one], [ct_noise(4, 1, 0)])
