"""C against draws of the physical simulation, and what it is where nothing can be simulated."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from dose_noise import noisy_pair
from torch.nn.functional import avg_pool2d

from invkit.data.dose.geometry import ScannerGeometry
from invkit.data.dose.image import estimate_noise
from invkit.data.dose.rays import noise_deviation
from invkit.data.dose.scanner import Scanner
from invkit.data.dose.texture import noise_texture
from invkit.data.fields import SPACING
from invkit.data.images import default_scan
from invkit.images.disc import disc
from invkit.noise.covariance import FLOOR
from invkit.noise.simulated import LEAST_NOISE, noise_of

SIZE, PIXEL, NOISE = 112, 0.9, 25.0
FEW_VIEWS = ScannerGeometry(views=320)
AXIS = (torch.arange(SIZE) - (SIZE - 1) / 2) * PIXEL
Y, X = torch.meshgrid(AXIS, AXIS, indexing="ij")
BODY = torch.hypot(X / 1.2, Y) < 41
DRAWS = 120


def rods():
    """Return an oval of water with two rods of bone, behind and between which noise is stronger."""
    image = torch.where(torch.hypot(X / 1.2, Y) < 43, 0.0, -1000.0)
    for side in (-26, 26):
        image = torch.where(torch.hypot(X - side, Y) < 7, 1200.0, image)
    return image[None, None]


@pytest.fixture(scope="module")
def simulated():
    """An image with noise, and more draws of that noise, by the simulation itself."""
    clean = rods()
    draws = []
    for seed in range(DRAWS // 20):
        y, _ = noisy_pair(
            clean.expand(20, -1, -1, -1),
            (PIXEL, PIXEL),
            dose=1.0,
            seed=seed,
            noise=NOISE,
            electronic=3.16,
            geometry=FEW_VIEWS,
        )
        draws.append(y - clean)
    draws = torch.cat(draws)
    return clean + draws[:1], draws


def local(draws):
    """Return the deviation around each pixel, `(H, W)`; the noise of 120 draws in 7 x 7 pixels is known to about 2 %."""
    return avg_pool2d(draws.square().mean(0), 7, stride=1, padding=3, count_include_pad=False)[0].sqrt()


def bands(draws):
    """Return the power in bands of 0.05 cycles per pixel, from the middle of the images."""
    part = draws[..., 24:88, 24:88]
    window = torch.hann_window(64, periodic=False)
    power = torch.fft.fft2(part * window * window[:, None]).abs().square().mean((0, 1))
    radius = torch.hypot(torch.fft.fftfreq(64)[:, None], torch.fft.fftfreq(64)[None, :])
    edges = torch.arange(0.05, 0.51, 0.05).tolist()
    return torch.stack([power[(radius >= low) & (radius < high)].mean() for low, high in pairwise(edges)])


def test_draws_are_like_those_of_the_simulation(simulated):
    x, theirs = simulated
    noise = noise_of(x, PIXEL, scanner=Scanner(geometry=FEW_VIEWS))
    assert noise.source == "simulation"
    ours = noise.draws(DRAWS, torch.Generator().manual_seed(0))
    ratio = (local(ours) / local(theirs))[BODY]
    assert ratio.mean() == pytest.approx(1, abs=0.15)  # the level, as `estimate_noise` promises
    assert (ratio / ratio.mean() - 1).abs().max() < 0.1
    found, wanted = bands(ours), bands(theirs)
    found, wanted = found / found.sum(), wanted / wanted.sum()
    # The last band has a thirtieth of the largest, a part of it aliased.
    assert ((found - wanted).abs() < 0.1 * wanted + 0.01 * wanted.max()).all()


def test_one_deviation_for_all_is_not_like_the_simulation(simulated):
    """What the comparison above would say of a map that is constant."""
    _, theirs = simulated
    ratio = (NOISE / local(theirs))[BODY]
    assert ((ratio / ratio.mean() - 1).abs() > 0.1).double().mean() > 0.2


def test_detectability_does_not_hang_on_the_floor(simulated):
    """Half the floor of the spectrum leaves d' of what the kernel can show, though the ramp has no power at frequency 0."""
    x, _ = simulated
    noise = noise_of(x.double(), PIXEL, scanner=Scanner(geometry=FEW_VIEWS))
    for radius in (1.0, 2.0, 4.0, 8.0):
        blurred = noise.blurred(disc(SIZE, SIZE, (60.0, 50.0), radius)[None, None].double())
        whole, half = (replace(noise, floor=floor).whitened(blurred).norm() for floor in (FLOOR, FLOOR / 2))
        assert half == pytest.approx(float(whole), rel=0.01)


def test_the_level_is_the_median_over_soft_tissue(simulated):
    x, _ = simulated
    found = noise_deviation(x, (PIXEL, PIXEL), noise=40.0)
    tissue = (x[0, 0] > -200) & (x[0, 0] < 250) & BODY
    assert found[tissue].median() == pytest.approx(40, rel=0.02)


def test_noise_that_was_added_in_the_image_keeps_its_level():
    """It has its texture in pixels, not in mm: taken for a scanner's, it would be a fifth too strong on pixels of 0.66 mm."""
    x, spacing, _ = default_scan()
    stationary, own = (noise_of(x, spacing, stationary=on).deviation for on in (True, False))
    assert stationary == pytest.approx(estimate_noise(x))
    assert 1.1 < float(own.median() / stationary.median()) < 1.35


def test_noise_that_was_added_in_the_image_is_white_once_it_is_whitened():
    x, spacing, _ = default_scan()
    added = estimate_noise(x) * noise_texture(4, *x.shape[-2:], generator=torch.Generator().manual_seed(0))
    assert noise_of(x, spacing, stationary=True).whitened(added).square().mean() == pytest.approx(1, rel=0.1)
    # With the spectrum of a scanner's kernel it would seem ten times as improbable.
    assert noise_of(x, spacing).whitened(added).square().mean() > 5


def test_pixels_of_unknown_size_are_those_of_the_training():
    x, _, _ = default_scan()
    assert torch.equal(noise_of(x, None).deviation, noise_of(x, SPACING[0]).deviation)


@pytest.mark.parametrize(
    ("image", "spacing"),
    [
        (torch.zeros(1, 1, 16, 64), 0.7),
        (torch.zeros(1, 1, 64, 64), 0.7),
        (40 + 1e5 * torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0)), 0.7),
        (40 + 20 * torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0)), 5.0),
    ],
    ids=["tiny", "no noise", "no HU", "no pixels of a scanner"],
)
def test_what_cannot_be_simulated_has_one_deviation(image, spacing):
    noise = noise_of(image, spacing)
    assert noise.source == "constant"
    assert torch.allclose(noise.deviation, torch.tensor(max(estimate_noise(image), LEAST_NOISE)))
