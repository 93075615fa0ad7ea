"""What a representation loses beyond noise is that of the closed form."""

import math

import numpy as np
import pytest
import torch

from invkit.data.dose.texture import noise_texture
from invkit.measures.completeness import lost_power, noise_rate
from invkit.noise.covariance import NoiseCovariance


def test_the_lost_power_is_that_of_the_closed_form():
    rows, columns = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    wave = 100 * torch.cos(2 * math.pi * (8 * rows + 2 * columns) / 128)[None, None]  # 0.064 cycles per pixel
    noise = 5 * noise_texture(64, 128, 128, generator=torch.Generator().manual_seed(0))
    scans = noise[:32] - noise[32:]
    x = wave + 5 * noise_texture(1, 128, 128, generator=torch.Generator().manual_seed(1))
    for kept in (0.0, 0.4, 0.8):
        assert lost_power(x, kept * wave, scans) == pytest.approx((1 - kept) ** 2, abs=0.03)
    assert lost_power(x, wave, scans) < 0.05  # what is lost is noise


def test_the_rate_of_white_noise_is_known():
    """Half of ln(variance / distortion) for each pixel; nothing where the noise is fainter than the distortion."""
    white = NoiseCovariance(torch.full((16, 18), 40.0), power=lambda radius: radius * 0 + 1)
    assert noise_rate(white, 2.0) == pytest.approx(16 * 18 * math.log(40 / 2))
    assert noise_rate(white, 41.0) == 0


def test_the_rate_of_coloured_noise_fills_water_up_from_below():
    noise = NoiseCovariance(torch.full((17, 20), 30.0))
    full = np.abs(np.fft.fft2(noise.root(delta(17, 20)).numpy()[0, 0])) ** 2  # its eigenvalues, all of them
    water = np.quantile(full, 0.4)
    distortion = np.minimum(full, water).mean() ** 0.5
    truth = np.log(np.maximum(full / water, 1)).sum() / 2
    assert noise_rate(noise, distortion) == pytest.approx(truth, rel=1e-4)


def delta(height, width):
    image = torch.zeros(1, 1, height, width)
    image[..., 0, 0] = 1
    return image
