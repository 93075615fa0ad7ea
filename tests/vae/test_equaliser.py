import math

import pytest
import torch

from invkit.images.bands import radial_bands
from invkit.vae.equaliser import Equaliser


def seeded(n=0):
    return torch.Generator().manual_seed(n)


def test_without_gains_an_image_passes_bit_for_bit():
    images = torch.randn(2, 1, 32, 32, generator=seeded())
    assert torch.equal(Equaliser()(images), images)


def test_a_cosine_is_scaled_by_the_gain_of_its_band():
    equaliser = Equaliser()
    equaliser.gain.copy_(torch.linspace(1.0, 1.9, 10))
    columns = torch.arange(256, dtype=torch.float32)
    for band in (2, 5, 9):
        frequency = (band + 0.5) / 20  # the middle of the band, where the gain is exact
        wave = torch.cos(2 * math.pi * frequency * columns).expand(1, 1, 256, 256)
        inner = (..., slice(64, -64), slice(64, -64))
        found = equaliser(wave)[inner].square().mean().sqrt() / wave[inner].square().mean().sqrt()
        assert found.item() == pytest.approx(1 + 0.1 * band, rel=0.01)


def test_constants_and_slow_ramps_stay():
    equaliser = Equaliser()
    equaliser.gain[1:] = 1.3
    ramp = torch.linspace(-1, 1, 128).expand(1, 1, 128, 128)
    assert (equaliser(ramp) - ramp).abs().max() < 0.02
    constant = torch.full((1, 1, 64, 64), 0.7)
    torch.testing.assert_close(equaliser(constant), constant)


def test_calibration_brings_each_band_to_half_of_the_energy_or_leaves_it():
    images = torch.randn(64, 1, 64, 64, generator=seeded(1))
    damped = Equaliser()
    damped.gain.copy_(torch.tensor([1.0, 0.9, 0.6, 0.5, 0.4, 0.5, 0.8, 0.9, 1.0, 1.0]))
    reconstructions = damped(images)
    equaliser = Equaliser()
    equaliser.calibrate(images, reconstructions)
    for window in (True, False):
        share = radial_bands(equaliser(reconstructions), window=window).sum(0) / radial_bands(
            images, window=window
        ).sum(0)
        assert share[1:].min() > 0.45
        assert share.max() < 1.2
    assert equaliser.gain[0] == 1
    assert equaliser.gain[-1] == pytest.approx(1, abs=0.05)
    assert equaliser.gain.min() >= 1


def test_calibration_damps_what_is_too_much():
    images = torch.randn(64, 1, 64, 64, generator=seeded(2))
    equaliser = Equaliser()
    equaliser.calibrate(images, 2 * images)
    assert equaliser.gain[1:].max() < 0.65
