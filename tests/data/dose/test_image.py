from itertools import pairwise

import numpy as np
import pytest
import torch

from invkit.data.dose.image import estimate_noise, simulate_low_dose
from invkit.data.dose.texture import noise_power, noise_texture
from invkit.data.phantoms.phantom import make_phantom
from invkit.errors import ImageError, UsageError


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def radial(power: np.ndarray, edges: np.ndarray) -> np.ndarray:
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(side) for side in power.shape], indexing="ij"))
    return np.array([power[(frequency >= low) & (frequency < high)].mean() for low, high in pairwise(edges)])


@pytest.mark.parametrize(("height", "width"), [(128, 128), (65, 33), (17, 200)])
def test_texture_has_unit_variance_and_zero_mean(height: int, width: int) -> None:
    field = noise_texture(100, height, width, generator=rng())
    assert field.shape == (100, 1, height, width)
    assert field.dtype == torch.float32
    assert float(field.var()) == pytest.approx(1, abs=0.03)
    assert abs(float(field.mean())) < 0.01


def test_texture_has_the_stated_power_spectrum() -> None:
    field = noise_texture(64, 128, 128, generator=rng(), periodic=True)[:, 0].numpy()
    power = (np.abs(np.fft.fft2(field)) ** 2).mean(axis=0)
    edges = np.linspace(0.02, 0.5, 25)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(128)))
    wanted = radial(noise_power(frequency), edges)
    found = radial(power, edges)
    np.testing.assert_allclose(found / found.sum(), wanted / wanted.sum(), rtol=0.05)


def test_texture_is_ct_like() -> None:
    peak = np.linspace(0, 0.5, 501)[np.argmax(noise_power(np.linspace(0, 0.5, 501)))]
    assert 0.08 < peak < 0.2
    assert noise_power(np.array([0.0]))[0] < 0.05
    assert noise_power(np.array([0.5]))[0] < 0.05


def test_opposite_edges_are_independent_unless_periodic() -> None:
    edges = noise_texture(3000, 32, 32, generator=rng())[:, 0, [0, -1], 16]
    assert abs(float(torch.corrcoef(edges.T)[0, 1])) < 0.08
    wrapped = noise_texture(3000, 32, 32, generator=rng(), periodic=True)[:, 0, [0, -1], 16]
    assert float(torch.corrcoef(wrapped.T)[0, 1]) > 0.3


def test_texture_repeats_by_its_generator() -> None:
    assert torch.equal(noise_texture(2, 20, 30, generator=rng(4)), noise_texture(2, 20, 30, generator=rng(4)))


@pytest.mark.parametrize("dose", [0.1, 0.25, 0.5, 0.8])
def test_added_variance_is_proportional_to_one_over_dose_minus_one(dose: float) -> None:
    y = torch.zeros(30, 1, 96, 96)
    x = simulate_low_dose(y, noise=12.0, dose=dose, generator=rng())
    assert float((x - y).var()) == pytest.approx(144 * (1 / dose - 1), rel=0.05)


def test_full_dose_changes_nothing() -> None:
    y = torch.randn(2, 1, 16, 16)
    x = simulate_low_dose(y, noise=10.0, dose=1.0, generator=rng())
    assert torch.equal(x, y)
    assert x is not y


def test_each_image_has_its_own_noise_and_the_total_is_that_of_the_dose() -> None:
    level = torch.tensor([8.0, 20.0])
    y = level.reshape(2, 1, 1, 1) * noise_texture(2, 256, 256, generator=rng(1))
    x = simulate_low_dose(y, noise=level, dose=0.25, generator=rng(2))
    torch.testing.assert_close(x.std(dim=(1, 2, 3)), level * 2, rtol=0.04, atol=0)


@pytest.mark.parametrize("dose", [0.0, -1.0, 1.5, float("nan")])
def test_impossible_doses_are_refused(dose: float) -> None:
    with pytest.raises(UsageError, match="quarter"):
        simulate_low_dose(torch.zeros(1, 1, 8, 8), noise=10, dose=dose, generator=rng())


def test_impossible_noise_and_shapes_are_refused() -> None:
    with pytest.raises(UsageError, match="noise"):
        simulate_low_dose(torch.zeros(1, 1, 8, 8), noise=-1, dose=0.5, generator=rng())
    with pytest.raises(UsageError, match="one per image"):
        simulate_low_dose(torch.zeros(2, 1, 8, 8), noise=torch.ones(3), dose=0.5, generator=rng())
    with pytest.raises(ImageError, match=r"\(B, 1, H, W\)"):
        simulate_low_dose(torch.zeros(8, 8), noise=1, dose=0.5, generator=rng())
    with pytest.raises(UsageError, match="positive size"):
        noise_texture(1, 0, 4, generator=rng())
    with pytest.raises(ImageError, match="one slice"):
        estimate_noise(torch.zeros(2, 1, 32, 32))


@pytest.mark.parametrize("region", ["thorax", "abdomen", "pelvis", "head"])
def test_noise_is_estimated_within_15_percent(region: str) -> None:
    clean = torch.from_numpy(make_phantom(11, 0, region=region))
    for index, noise in enumerate((8.0, 20.0, 40.0)):
        y = clean + noise * noise_texture(1, *clean.shape, generator=rng(index))[0, 0]
        assert estimate_noise(y) == pytest.approx(noise, rel=0.15)


def test_noise_of_a_uniform_field_is_exact() -> None:
    y = 13 * noise_texture(1, 512, 512, generator=rng())
    assert estimate_noise(y) == pytest.approx(13, rel=0.08)
    assert estimate_noise(torch.zeros(1, 1, 64, 64)) == 0
