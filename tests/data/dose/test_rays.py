"""The lines that dose simulation promises, on small grids; `test_simulate_slow.py` holds them at full size."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from dose_noise import noisy_pair
from fan_beam import noise_of_both

from invkit.data.dose.geometry import ScannerGeometry
from invkit.data.dose.image import estimate_noise
from invkit.data.dose.kernel import KERNELS
from invkit.data.dose.physics import WATER
from invkit.data.dose.rays import calibrate_photons, simulate_dose
from invkit.data.dose.scanner import Scanner
from invkit.data.phantoms.phantom import make_phantom
from invkit.errors import ImageError, UsageError

FEW_VIEWS = ScannerGeometry(views=160, channel=4.0)  # enough for the standard kernel
SIZE, PIXEL = 96, 3.2
SPACING = (PIXEL, PIXEL)
AXIS = (torch.arange(SIZE) - (SIZE - 1) / 2) * PIXEL
Y, X = torch.meshgrid(AXIS, AXIS, indexing="ij")
CENTRE = torch.hypot(X, Y) < 60


def water(radius=120.0):
    return torch.where(torch.hypot(X, Y) < radius, 0.0, -1000.0)[None, None]


def low(clean, dose, *, n=6, seed=0, **options):
    """Return n noisy slices at full and low dose, with quantum noise only and few views by default."""
    options = {"photons": 4e5, "electronic": 0.0, "geometry": FEW_VIEWS} | options
    return noisy_pair(clean.expand(n, -1, -1, -1), SPACING, dose=dose, seed=seed, **options)


def deviation(noise, where=CENTRE):
    return float(noise[:, 0, where].std())


@pytest.mark.parametrize("dose", [0.1, 0.25, 0.5, 0.8])
def test_added_variance_is_proportional_to_one_over_dose_minus_one(dose):
    clean = water()
    y, x = low(clean, dose)
    assert deviation(x - y) ** 2 == pytest.approx(deviation(y - clean) ** 2 * (1 / dose - 1), rel=0.05)


@pytest.mark.parametrize("dose", [0.1, 0.25, 0.5])
def test_total_noise_goes_as_one_over_the_root_of_dose(dose):
    clean = water()
    y, x = low(clean, dose, seed=1)
    assert deviation(x - clean) == pytest.approx(deviation(y - clean) / math.sqrt(dose), rel=0.03)


@pytest.mark.parametrize("dose", [0.25, 0.5])
def test_a_slice_with_noise_gets_what_its_dose_lacks(dose):
    clean = water()
    y, _ = low(clean, 1.0, seed=2)
    x = simulate_dose(
        y, SPACING, dose=dose, seed=3, photons=4e5, scanner=Scanner(electronic=0.0, geometry=FEW_VIEWS)
    )
    assert deviation(x - clean) == pytest.approx(deviation(y - clean) / math.sqrt(dose), rel=0.05)


def test_full_dose_changes_nothing():
    y = water() + torch.randn(2, 1, SIZE, SIZE)
    x = simulate_dose(y, SPACING, dose=1.0, seed=0)
    assert torch.equal(x, y)
    assert x is not y
    noisy, same = low(water(), 1.0, n=1)
    assert torch.equal(noisy, same)


@pytest.mark.parametrize("dose", [0.1, 0.25])
def test_electronic_noise_adds_what_the_model_says(dose):
    clean, photons, electronic = water(), 4e5, 60.0
    y, x = low(clean, dose, n=80)
    with_y, with_x = low(clean, dose, n=80, seed=1, electronic=electronic)
    # In the centre of the disc every ray is a diameter; the filter sees hardly beyond.
    mean = photons * math.exp(-WATER * 240)
    quantum, extra = (1 / dose - 1) / mean, electronic**2 * (1 / dose**2 - 1) / mean**2
    near = torch.hypot(X, Y) < 20
    found = deviation(with_x - with_y, near) ** 2 / deviation(x - y, near) ** 2
    assert found == pytest.approx(1 + extra / quantum, rel=0.08)
    assert extra / quantum > 0.4
    assert deviation(with_y - clean, near) > deviation(y - clean, near)


def test_the_mean_stays_within_one_hu():
    clean = water()
    y, x = low(clean, 0.1, n=12)
    for where in (CENTRE, torch.hypot(X, Y) < 110, torch.hypot(X, Y) > 130):
        assert abs(float((x - y)[:, 0, where].mean())) < 1
        assert abs(float((y - clean)[:, 0, where].mean())) < 1


@pytest.mark.parametrize("name", ["standard", "sharp"])
def test_noise_has_the_power_spectrum_of_its_kernel(name):
    pixel = 0.8
    clean = torch.zeros(6, 1, 96, 96)
    y, _ = noisy_pair(
        clean,
        (pixel, pixel),
        dose=1.0,
        seed=0,
        photons=1e5,
        electronic=0.0,
        kernel=name,
        geometry=ScannerGeometry(views=240),
    )
    window = np.outer(np.hanning(64), np.hanning(64))
    part = y[:, 0, 16:80, 16:80].numpy()
    found = (np.abs(np.fft.fft2((part - part.mean(axis=(1, 2), keepdims=True)) * window)) ** 2).mean(axis=0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(64), np.fft.fftfreq(64)))
    wanted = KERNELS[name].power(torch.from_numpy(frequency / pixel)).numpy()
    edges = np.arange(0.07, 0.4, 0.06)  # below, 64 pixels leak
    bands = [(frequency >= start) & (frequency < start + 0.06) for start in edges]
    found, wanted = (np.array([power[band].mean() for band in bands]) for power in (found, wanted))
    np.testing.assert_allclose(found / found.sum(), wanted / wanted.sum(), rtol=0.12, atol=0.003)


def test_noise_is_stronger_and_streaked_behind_bone():
    clean = water()
    for side in (-70, 70):
        clean = torch.where(torch.hypot(X - side, Y) < 18, 1500.0, clean)
    y, x = low(clean, 0.25, n=30)
    between = (X.abs() < 20) & (Y.abs() < 8)
    beside = (X.abs() < 20) & ((Y - 75).abs() < 8)
    assert deviation(x - y, between) > 1.3 * deviation(x - y, beside)
    # Along the line through both bones neighbours agree more than across it.
    noise = (x - y)[:, 0]
    along = float((noise[:, 46:50, 38:57] * noise[:, 46:50, 40:59]).mean())
    across = float((noise[:, 46:50, 38:57] * noise[:, 48:52, 38:57]).mean())
    assert along > 2 * abs(across)


def test_noise_repeats_by_its_seed_and_image():
    y = water().expand(2, -1, -1, -1)
    options = {"dose": 0.25, "photons": 1e5, "scanner": Scanner(geometry=FEW_VIEWS)}
    first = simulate_dose(y, SPACING, seed=4, **options)
    assert torch.equal(first, simulate_dose(y, SPACING, seed=4, **options))
    torch.testing.assert_close(first[:1], simulate_dose(y[:1], SPACING, seed=4, **options), rtol=0, atol=1e-3)
    assert not torch.equal(first, simulate_dose(y, SPACING, seed=5, **options))
    assert not torch.equal(first[0], first[1])


def test_the_bowtie_raises_the_noise_of_the_edge():
    clean = water(radius=0.0)
    edge = torch.hypot(X, Y) > 150
    ratios = []
    for bowtie in (False, True):
        y, _ = low(clean, 1.0, bowtie=bowtie)
        ratios.append(deviation(y - clean, edge) / deviation(y - clean))
    assert ratios[1] > 1.1 * ratios[0]


def test_modulation_lowers_the_noise_of_an_oblong_body():
    clean = torch.where((X / 140) ** 2 + (Y / 70) ** 2 < 1, 0.0, -1000.0)[None, None]
    plain, modulated = (deviation(low(clean, 1.0, modulation=on)[0] - clean) for on in (False, True))
    assert modulated < 0.95 * plain


@pytest.mark.parametrize("kernel", ["standard", "ramp"])
def test_photons_are_calibrated_to_the_noise_that_is_asked_for(kernel):
    clean = water()
    y, _ = low(clean, 1.0, photons=None, noise=20.0, kernel=kernel, electronic=30.0)
    disc = torch.hypot(X, Y) < 115
    assert float(np.median([(y - clean)[:, 0, ring].std() for ring in rings(disc)])) == pytest.approx(
        20, rel=0.05
    )


def rings(disc):
    """Return parts of a disc of about equal size, by distance from its centre."""
    edges = [115 * math.sqrt(part / 8) for part in range(9)]
    radius = torch.hypot(X, Y)
    return [disc & (radius >= start) & (radius < stop) for start, stop in pairwise(edges)]


@pytest.mark.parametrize("region", ["abdomen", "head"])
def test_a_slice_is_calibrated_by_its_own_noise(region):
    pixel = {"abdomen": 0.75, "head": 0.46}[region]
    clean = torch.from_numpy(make_phantom(3, 0, region=region))[None, None]
    y, _ = noisy_pair(clean, (pixel, pixel), dose=1.0, seed=0, noise=14.0, geometry=FEW_VIEWS)
    true = calibrate_photons(clean, (pixel, pixel), noise=14.0, scanner=Scanner(geometry=FEW_VIEWS))[0]
    found = calibrate_photons(y, (pixel, pixel), scanner=Scanner(geometry=FEW_VIEWS))[0]
    assert math.sqrt(true / found) == pytest.approx(1, abs=0.15)  # of the noise, as estimate_noise promises


def test_noise_is_that_of_a_fan_beam_scanner():
    """An independent scan of the same geometry, drawn and reconstructed on the fan's own rays."""
    ours, fan, x, y = noise_of_both(48, 6.4, 160, body=(130, 100), bone=(80, 20, 800), n=16)
    for place, tolerance in ((np.hypot(x, y) < 45, 0.06), (np.hypot(x, y - 70) < 25, 0.12)):
        assert ours[:, place].std() == pytest.approx(fan[:, place].std(), rel=tolerance)


def test_slices_need_not_be_square_or_have_square_pixels():
    clean = torch.zeros(1, 1, 33, 64)
    x = simulate_dose(clean, (2.0, 1.0), dose=0.5, seed=0, photons=1e5, scanner=Scanner(geometry=FEW_VIEWS))
    assert x.shape == clean.shape
    assert float(x.std()) > 1
    assert simulate_dose(clean[:0], (2.0, 1.0), dose=0.5, seed=0, photons=1e5).shape == (0, 1, 33, 64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dose": 0.0}, "quarter"),
        ({"dose": 1.5}, "quarter"),
        ({"dose": math.nan}, "quarter"),
        ({"photons": -1.0}, "photons is a number above 0"),
        ({"photons": 1e5, "noise": 10.0}, "not both"),
        ({"noise": math.inf}, "noise is a number above 0"),
        ({"spacing": (1.0, 0.0)}, "row and column spacing"),
    ],
)
def test_impossible_arguments_are_refused(options, message):
    arguments = {"dose": 0.5, "seed": 0, "spacing": SPACING} | options
    with pytest.raises(UsageError, match=message):
        simulate_dose(water(), arguments.pop("spacing"), **arguments)


def test_what_cannot_be_calibrated_is_refused():
    with pytest.raises(ImageError, match=r"\(B, 1, H, W\)"):
        simulate_dose(water()[0], SPACING, dose=0.5, seed=0)
    with pytest.raises(ImageError, match="State the photons"):
        simulate_dose(
            torch.zeros(1, 1, 64, 64), SPACING, dose=0.5, seed=0, scanner=Scanner(geometry=FEW_VIEWS)
        )
    assert estimate_noise(torch.zeros(1, 1, 64, 64)) == 0
