import math

import numpy as np
import pytest
import torch

from invkit.data.dose.geometry import ScannerGeometry
from invkit.data.dose.kernel import KERNELS, MEASURED_PIXEL, Kernel, chosen_kernel
from invkit.data.dose.physics import (
    WATER,
    attenuation,
    bowtie_transmission,
    draw_noise,
    poisson_quantile,
    ray_transmission,
    tube_current,
)
from invkit.data.dose.texture import MEASURED_NPS, noise_power
from invkit.errors import UsageError


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_attenuation_follows_the_definition_of_hu():
    y = torch.tensor([-1024.0, -1000.0, 0.0, 1000.0])
    torch.testing.assert_close(attenuation(y), torch.tensor([0.0, 0.0, WATER, 2 * WATER]))


def test_water_lies_between_its_neighbours_in_the_table():
    energy, table = np.log([60, 80]), np.log([0.02059, 0.01837])
    assert pytest.approx(math.exp(np.interp(math.log(70), energy, table)), rel=0.005) == WATER


def test_the_bowtie_takes_more_from_the_edge():
    share = bowtie_transmission(torch.tensor([0.0, -125.0, 125.0, 250.0, 400.0]))
    torch.testing.assert_close(share[[0, 3, 4]], torch.tensor([1.0, 0.1, 0.1]))
    assert share[1] == share[2] == pytest.approx(0.1 ** (1 - math.sqrt(0.75)))


def test_the_tube_current_follows_the_thickest_ray_within_its_range():
    integrals = torch.tensor([[1.0, 4.0], [2.0, 2.0], [0.0, 5.0], [9.0, 0.0]])
    current = tube_current(integrals)
    assert float(current.mean()) == pytest.approx(1)
    assert float(current.max() / current.min()) == pytest.approx(4)
    assert float(current[3] / current[2]) == pytest.approx(4)
    close = tube_current(integrals[:2])
    assert float(close[0] / close[1]) == pytest.approx(math.exp(1))


def test_modulation_gives_a_ray_the_current_of_its_source():
    geometry = ScannerGeometry(views=720)
    angles, offsets = geometry.angles(), geometry.offsets((64, 64), (4.0, 4.0))
    integrals = (1 + torch.cos(2 * angles))[:, None].expand(-1, len(offsets)).float()
    plain = ray_transmission(integrals, geometry, offsets)
    share = ray_transmission(integrals, geometry, offsets, modulation=True) / plain
    current = tube_current(integrals)
    centre = len(offsets) // 2
    torch.testing.assert_close(share[:, centre], current, rtol=0.01, atol=0)
    fan = geometry.fan_angle(offsets)
    for ray, sign in ((0, 1), (1, -1)):
        source = (angles - sign * fan[ray]) % math.pi
        wanted = np.interp(source, angles, current, period=math.pi)
        np.testing.assert_allclose(share[:, ray], wanted, rtol=1e-3)


@pytest.mark.parametrize("electronic", [0.0, 8.0])
@pytest.mark.parametrize("dose", [0.1, 0.25, 0.7])
def test_moments_of_the_noise_of_a_ray(dose, electronic):
    mean = torch.full((400_000,), 900.0)
    full, low = draw_noise(mean, dose=dose, electronic=electronic, generator=rng())
    added = low - full
    model = (1 / dose - 1) / 900 + electronic**2 * (1 / dose**2 - 1) / 900**2
    assert float(full.var()) == pytest.approx(1 / 900 + electronic**2 / 900**2, rel=0.015)
    assert float(low.var()) == pytest.approx(1 / (900 * dose) + (electronic / 900 / dose) ** 2, rel=0.05)
    assert float(added.var()) == pytest.approx(model, rel=0.05)
    assert abs(float(torch.corrcoef(torch.stack([full, added]))[0, 1])) < 0.01
    for noise in (full, added):
        assert abs(float(noise.mean())) < 5 * float(noise.std()) / math.sqrt(len(noise))


@pytest.mark.parametrize("photons", [4.0, 8.0, 20.0, 100.0])
def test_the_logarithm_has_no_bias_short_of_starvation(photons):
    full, low = draw_noise(torch.full((400_000,), 4 * photons), dose=0.25, electronic=0, generator=rng())
    for noise in (full, low):
        assert abs(float(noise.mean())) < 0.1 * float(noise.std())


@pytest.mark.parametrize("mean", [0.3, 3.0, 11.9, 12.1, 60.0, 4000.0])
def test_counts_have_the_moments_and_quantiles_of_a_poisson_variable(mean):
    from scipy.stats import norm, poisson

    counts = poisson_quantile(torch.full((400_000,), mean), torch.randn(400_000, generator=rng()))
    assert float(counts.mean()) == pytest.approx(mean, rel=0.01)
    assert float(counts.var()) == pytest.approx(mean, rel=0.01)
    normal = torch.linspace(-4, 4, 33)
    found = poisson_quantile(torch.full((33,), mean), normal)
    wanted = poisson(mean).ppf(norm.cdf(normal.double().numpy()))
    # Whole numbers, but for the expansion: it runs through the middle of the steps.
    np.testing.assert_allclose(found, wanted, atol=1e-6 if mean < 12 else 1.1)


def test_counts_change_little_with_their_mean():
    normal = torch.randn(10_000, generator=rng())
    mean = torch.linspace(0.5, 1000, 10_000)
    near = poisson_quantile(mean * (1 + 1e-6), normal) - poisson_quantile(mean, normal)
    assert float((near.abs() > 0.01).float().mean()) < 0.001


def test_starved_rays_have_finite_noise():
    full, low = draw_noise(torch.full((1000,), 1e-6), dose=0.1, electronic=3.0, generator=rng())
    assert bool(full.isfinite().all() and low.isfinite().all())


def test_noise_repeats_by_its_generator_and_differs_between_seeds():
    mean = torch.full((50,), 100.0)
    first, again, other = (
        draw_noise(mean, dose=0.5, electronic=2.0, generator=rng(seed))[1] for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_standard_kernel_gives_the_measured_noise_power():
    pixels = np.linspace(0.025, 0.7, 50)
    found = KERNELS["standard"].power(torch.from_numpy(pixels / MEASURED_PIXEL)).numpy()
    wanted = noise_power(pixels)
    np.testing.assert_allclose(found / found.max(), wanted / wanted.max(), atol=0.01)


@pytest.mark.parametrize("name", MEASURED_NPS)
def test_a_kernel_can_be_made_for_any_noise_power(name):
    table = np.array(MEASURED_NPS[name])[1:-1]
    found = KERNELS[name].power(torch.from_numpy(table[:, 0] / MEASURED_PIXEL)).numpy()
    np.testing.assert_allclose(found / found.max(), table[:, 1] / table[:, 1].max(), atol=0.01)


def test_kernels_start_at_one_and_sharper_ones_keep_more():
    frequency = torch.linspace(0, 2, 201, dtype=torch.float64)
    for kernel in KERNELS.values():
        response = kernel.response(frequency)
        assert float(response[0]) == 1
        assert float(response[-1]) == 0
    at = torch.tensor([0.3], dtype=torch.float64)
    assert KERNELS["standard"].response(at) < KERNELS["sharp"].response(at) < KERNELS["ramp"].response(at)
    assert float(frequency[KERNELS["sharp"].power(frequency).argmax()]) == pytest.approx(0.32, abs=0.01)
    exponential = Kernel.exponential("e", 0.2, 2.0)
    wanted = frequency * torch.exp(-((frequency / 0.2) ** 2))
    torch.testing.assert_close(exponential.power(frequency), wanted, rtol=0, atol=1e-4)


def test_an_unknown_kernel_is_refused_by_name():
    assert chosen_kernel(KERNELS["sharp"]) is chosen_kernel("sharp")
    with pytest.raises(UsageError, match="no kernel 'blurry'; kernels are standard, sharp"):
        chosen_kernel("blurry")


@pytest.mark.parametrize("changes", [{"views": 1150}, {"channel": 0.0}, {"source_isocentre": math.inf}])
def test_impossible_geometries_are_refused(changes):
    with pytest.raises(ValueError):
        ScannerGeometry(**changes)
