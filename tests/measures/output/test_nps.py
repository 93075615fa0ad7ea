"""Noise power spectra against closed forms."""

import numpy as np
import pytest
import torch

from invkit.measures.output.nps import BANDS, band_middles, noise_spectrum
from invkit.statistics.tree import as_json

SIDE = 48


def white(scans=40, places=4, level=20.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return level * torch.randn(scans, places, SIDE, SIDE, generator=generator)


def test_white_noise_has_its_variance_in_every_band():
    found = noise_spectrum([white()], seed=0)
    assert found.power == pytest.approx([400.0] * BANDS, rel=0.05)
    assert found.total.value == pytest.approx(20.0, rel=0.01)
    assert found.total.low < 20 < found.total.high
    assert found.mean.value == pytest.approx(0.25, rel=0.01)


def test_filtered_noise_has_the_square_of_the_filter():
    """A circular Gaussian of deviation s has the response exp(-2 pi^2 s^2 f^2)."""
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE)[None, :])
    response = torch.from_numpy(np.exp(-2 * np.pi**2 * 0.8**2 * frequency**2))
    filtered = torch.fft.ifft2(torch.fft.fft2(white().double()) * response).real
    found = noise_spectrum([filtered], seed=0)
    middles = band_middles()
    exact = 400 * np.exp(-4 * np.pi**2 * 0.8**2 * middles**2)
    assert np.array(found.power)[1:14] == pytest.approx(exact[1:14], rel=0.1)
    assert found.total.value == pytest.approx(20 * float(response.square().mean().sqrt()), rel=0.02)
    assert found.mean.value == pytest.approx(float((exact * middles).sum() / exact.sum()), rel=0.03)


def test_what_stays_from_scan_to_scan_is_no_noise():
    noise = white(scans=12)
    background = 1000 * torch.linspace(0, 1, SIDE).expand(4, SIDE, SIDE)
    both = [noise_spectrum([one], seed=0) for one in (noise, noise + background)]
    assert both[1].power == pytest.approx(both[0].power, rel=1e-3)


def test_the_peak_is_where_the_power_is():
    """Noise in a ring about 0.2 cycles per pixel."""
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE)[None, :])
    ring = torch.from_numpy(np.exp(-(((frequency - 0.2) / 0.04) ** 2)))
    found = noise_spectrum([torch.fft.ifft2(torch.fft.fft2(white().double()) * ring).real], seed=0)
    assert found.peak == pytest.approx(0.2, abs=0.01)
    assert found.mean.value == pytest.approx(0.2, abs=0.01)


def test_places_of_several_images_are_joined():
    apart = noise_spectrum([white(seed=0), white(seed=1, places=2)], seed=0)
    each = [noise_spectrum([one], seed=0) for one in (white(seed=0), white(seed=1, places=2))]
    assert apart.power == pytest.approx((2 * np.array(each[0].power) + np.array(each[1].power)) / 3, rel=1e-9)


def test_no_noise_has_no_mean_frequency():
    found = noise_spectrum([torch.zeros(4, 2, SIDE, SIDE)], seed=0)
    assert found.total.value == 0 and as_json(found.figures())["mean_per_px"] is None
