"""Completeness against cases whose answer is known."""

import pytest
import torch

from invkit.vae.completeness import completeness


@pytest.fixture(scope="module")
def patches():
    return 30 * torch.randn(64, 1, 32, 32, generator=torch.Generator().manual_seed(0))


def test_the_image_itself_loses_nothing(patches):
    found = completeness(patches, lambda x: x, numbers=1024)
    assert found.rmse == 0
    assert not found.lost.any()


def test_a_scaled_copy_loses_the_square_of_the_rest_in_every_band(patches):
    found = completeness(patches, lambda x: 0.7 * x, numbers=1024, rate=5.0)
    assert found.rmse == pytest.approx(0.3 * patches.double().square().mean().sqrt().item(), rel=1e-5)
    torch.testing.assert_close(found.lost, torch.full((10,), 0.09, dtype=torch.float64), rtol=1e-5, atol=0)


def test_a_low_pass_loses_the_upper_bands_only(patches):
    def low_pass(x):
        spectrum = torch.fft.rfft2(x)
        radius = torch.hypot(torch.fft.fftfreq(32)[:, None], torch.fft.rfftfreq(32)[None])
        return torch.fft.irfft2(spectrum * (radius < 0.25), s=(32, 32))

    lost = completeness(patches, low_pass, numbers=200).lost
    assert (lost[:4] < 0.1).all()
    assert (lost[6:] > 0.9).all()
