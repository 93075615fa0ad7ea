"""Flat regions hold noise alone, and what is measured in them is the noise's own spectrum."""

import numpy as np
import pytest
import torch

from invkit.data.dose.texture import noise_power, noise_texture
from invkit.errors import InputError
from invkit.images.flat import Regions, flat_regions, noise_in
from invkit.images.spectrum import power_spectrum


def ct_noise(n, size, seed=0):
    return noise_texture(n, size, size, generator=torch.Generator().manual_seed(seed))


def test_nearly_every_region_of_pure_noise_is_flat():
    regions = flat_regions(40 + 20 * ct_noise(32, 128), per_image=9)
    assert len(regions) == 32 * 9


def test_edges_lungs_and_bone_are_left_out():
    image = torch.full((1, 1, 128, 128), 40.0)
    image[..., :40] = -800  # lung, down the left
    image[..., 80:, :] = 900  # bone, along the foot
    regions = flat_regions(image + 10 * ct_noise(1, 128), per_image=50)
    assert len(regions)
    assert min(regions.column) >= 40
    assert max(regions.row) + regions.size <= 80


def test_regions_overlap_by_half_at_most_and_the_flattest_come_first():
    image = 40 + 10 * ct_noise(1, 128)
    image[..., 64:, :] += 4 * torch.sin(torch.arange(128) / 2)  # a texture, weaker than the noise
    regions = flat_regions(image, per_image=50)
    places = list(zip(regions.row, regions.column, strict=True))
    for i, (row, column) in enumerate(places):
        assert all(max(abs(row - r), abs(column - c)) >= 16 for r, c in places[:i])
    assert flat_regions(image, per_image=2).row == regions.row[:2]


def test_the_trend_of_anatomy_does_not_count_as_noise():
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    trend = 3 + 2 * x - y + 0.1 * x * y - 0.05 * x**2 + 0.02 * y**2
    region = Regions(32, (0,), (0,), (0,))
    assert noise_in(trend.view(1, 1, 32, 32), region).abs().max() < 1e-3
    noise = 10 * ct_noise(1, 32)
    left = noise_in(noise, region)
    torch.testing.assert_close(noise_in(noise + trend, region), left, atol=1e-3, rtol=0)
    basis = np.stack(
        [(x**a * y**b).numpy().ravel() for a, b in [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (0, 2)]]
    )
    fit, *_ = np.linalg.lstsq(basis.T, noise.numpy().ravel(), rcond=None)
    np.testing.assert_allclose(left.numpy().ravel(), noise.numpy().ravel() - basis.T @ fit, atol=1e-3)


def test_the_spectrum_of_noise_in_an_image_is_what_was_put_in():
    """Two levels of noise on the same anatomy differ by their ratio in every band, and follow the input's law."""
    anatomy = torch.linspace(-60, 60, 128).expand(24, 1, 128, 128)
    noise = 15 * ct_noise(24, 128)
    regions = flat_regions(anatomy + noise)
    once, twice = (np.array(power_spectrum(noise_in(anatomy + k * noise, regions)).power) for k in (1, 2))
    np.testing.assert_allclose(twice / once, 4, rtol=1e-3)
    spectrum = power_spectrum(noise_in(anatomy + noise, regions))
    expected = noise_power(np.array(spectrum.frequency))
    # Choosing the flattest regions takes a sixth of the power at 0.125 cycles per pixel, next to nothing above.
    shape = once / expected
    np.testing.assert_allclose(shape[3:8] / shape[3:8].mean(), 1, atol=0.06)


def test_what_cannot_be_measured_is_an_error():
    with pytest.raises(InputError, match="at least as large"):
        flat_regions(torch.zeros(1, 1, 16, 64))
    with pytest.raises(InputError, match="no image has a flat region"):
        noise_in(torch.zeros(1, 1, 64, 64), flat_regions(torch.full((1, 1, 64, 64), -1000.0)))
