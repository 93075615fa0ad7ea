import math

import pytest
import torch

from invkit.errors import ImageError
from invkit.images.bands import band_counts, radial_bands


@pytest.mark.parametrize(
    ("rows", "columns", "band"), [(3, 0, 0), (0, 10, 3), (12, 16, 6), (32, 0, 9), (32, 32, 9)]
)
def test_cosine_has_all_its_power_in_one_band(rows, columns, band):
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    image = 5 * torch.cos(2 * math.pi * (rows * y + columns * x) / 64)[None, None] + 100
    power = radial_bands(image)[0].double() * band_counts(64, 64) / 64**2
    assert power[band] == pytest.approx(image.double().var(correction=0).item(), rel=1e-4)
    assert power.sum() - power[band] < 1e-4


@pytest.mark.parametrize(("height", "width"), [(32, 32), (31, 24), (24, 33)])
def test_parseval(height, width):
    image = torch.randn(4, 1, height, width, generator=torch.Generator().manual_seed(0)) * 7 + 3
    bands = radial_bands(image, bands=6)
    counts = band_counts(height, width, bands=6)
    assert counts.sum() == height * width - 1
    expected = image.double().flatten(1).var(dim=1, correction=0)
    torch.testing.assert_close((bands.double() @ counts) / (height * width), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("window", [False, True])
def test_white_noise_has_its_variance_in_every_band(window):
    noise = 3 * torch.randn(200, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        radial_bands(noise, window=window).mean(0), torch.full((10,), 9.0), rtol=0.06, atol=0
    )


def test_window_removes_the_leakage_of_a_ramp():
    ramp = torch.linspace(0, 100, 64).expand(1, 1, 64, 64)
    assert radial_bands(ramp, window=True)[0, 5] < 1e-4 * radial_bands(ramp)[0, 5]


def test_differentiable():
    image = torch.randn(2, 1, 16, 16, dtype=torch.float32, requires_grad=True)
    radial_bands(image, bands=4, window=True).sum().backward()
    assert image.grad is not None
    assert image.grad.isfinite().all()


def test_refuses_other_shapes_and_too_many_bands():
    with pytest.raises(ImageError, match=r"\(B, 1, H, W\)"):
        radial_bands(torch.zeros(4, 4))
    with pytest.raises(ImageError, match="too many"):
        radial_bands(torch.zeros(1, 1, 4, 4), bands=30)
