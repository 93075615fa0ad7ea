import math

import numpy as np
import pytest
import torch
from skimage.transform import iradon, radon

from invkit.data.dose.backprojection import backproject, filter_rays, filter_taps
from invkit.data.dose.geometry import ScannerGeometry
from invkit.data.dose.kernel import KERNELS, Kernel
from invkit.data.dose.projection import project
from invkit.errors import UsageError

FLAT = Kernel("flat", ((0.0, 1.0), (100.0, 1.0)))


def grid(size, spacing):
    y, x = ((torch.arange(count) - (count - 1) / 2) * side for count, side in zip(size, spacing, strict=True))
    return torch.meshgrid(y, x, indexing="ij")


def disc(size, spacing, centre, radius):
    """A disc whose edge is spread over a pixel, shape `(1, 1, H, W)`."""
    y, x = grid(size, spacing)
    inside = radius - torch.hypot(x - centre[0], y - centre[1])
    return (inside / min(spacing) + 0.5).clamp(0, 1)[None, None]


def angles_of(views):
    return (torch.arange(views, dtype=torch.float64) + 0.5) * (math.pi / views)


def smooth_image(size):
    """Blobs, on an odd grid, so that the middle pixel is the centre for scikit-image too."""
    y, x = grid((size, size), (1.0, 1.0))
    blobs = ((0, 0, 9, 1.0), (12, -5, 4, 0.7), (-8, 14, 3, -0.4))
    image = sum(a * torch.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * s**2)) for u, v, s, a in blobs)
    return torch.where(torch.hypot(x, y) < size // 2, image, 0.0)


@pytest.mark.parametrize(("size", "spacing"), [((96, 96), (1.0, 1.0)), ((81, 64), (1.0, 1.3))])
def test_integrals_of_a_disc_are_its_chords(size, spacing):
    centre, radius = (6.0, -9.0), 25.0
    image = torch.cat([disc(size, spacing, centre, radius), torch.zeros(1, 1, *size)])
    angles, offsets = angles_of(24), torch.linspace(-55, 55, 111, dtype=torch.float64)
    found = project(image, spacing, angles, offsets, step=0.5)
    distance = offsets - (centre[0] * angles.cos() + centre[1] * angles.sin())[:, None]
    chords = 2 * (radius**2 - distance**2).clamp(min=0).sqrt()
    assert found.shape == (2, 24, 111)
    assert float(found[1].abs().max()) == 0
    # Near its rim a chord changes faster than pixels can show.
    inner = distance.abs() < radius - 5
    torch.testing.assert_close(found[0][inner], chords.float()[inner], rtol=0.01, atol=0.2)
    torch.testing.assert_close(found[0].sum(1), chords.float().sum(1), rtol=0.005, atol=0)


def test_integrals_are_those_of_scikit_image():
    image = smooth_image(65)
    angles, offsets = angles_of(30), torch.arange(65, dtype=torch.float64) - 32
    ours = project(image[None, None], (1.0, 1.0), angles, offsets, step=0.5)[0]
    # There y grows upwards.
    theirs = radon(image.numpy().astype(np.float64), theta=-np.rad2deg(angles.numpy()), circle=True).T
    assert np.abs(ours.numpy() - theirs).max() < 0.01 * theirs.max()


def test_a_coarse_projection_is_near_a_fine_one():
    geometry = ScannerGeometry(views=64)
    size, spacing = (64, 64), (4.0, 4.0)
    image = disc(size, spacing, (10.0, 20.0), 90.0) * 0.02
    fine = project(image, spacing, geometry.angles(), geometry.offsets(size, spacing))
    coarse = project(image, spacing, geometry.angles(4), geometry.offsets(size, spacing, 4))
    shape = fine.shape[-2:]
    again = torch.nn.functional.interpolate(coarse[None], shape, mode="bilinear", align_corners=False)[0]
    assert float((again - fine).abs().mean()) < 0.02
    assert float(fine.max()) == pytest.approx(3.6, rel=0.02)


@pytest.mark.parametrize("size", [(12, 12), (13, 9), (10, 15)])
def test_back_projection_is_the_sum_over_all_views(size):
    spacing, ray_spacing, views, rays = (1.3, 0.9), 0.7, 10, 41
    sinogram = torch.randn(2, views, rays, generator=torch.Generator().manual_seed(0))
    found = backproject(sinogram, size, spacing, ray_spacing)
    y, x = (values.double().numpy() for values in grid(size, spacing))
    wanted = np.zeros((2, *size))
    for image, view in np.ndindex(2, views):
        angle = angles_of(views)[view].item()
        place = (x * math.cos(angle) + y * math.sin(angle)) / ray_spacing + (rays - 1) / 2
        wanted[image] += np.interp(place, np.arange(rays), sinogram[image, view].double().numpy())
    assert found.shape == (2, 1, *size)
    np.testing.assert_allclose(found[:, 0], wanted, atol=2e-4)


def test_a_pixel_that_no_ray_reaches_gets_nothing():
    found = backproject(torch.ones(1, 8, 5), (11, 11), (1.0, 1.0), 1.0)
    assert float(found[0, 0, 5, 5]) == pytest.approx(8)
    assert float(found[0, 0, 0, 0]) < 8
    assert float(backproject(torch.ones(1, 8, 5), (1, 2), (1.0, 180.0), 1.0).abs().max()) == 0


def test_an_odd_number_of_views_is_refused():
    with pytest.raises(UsageError, match="even number of views, got 7"):
        backproject(torch.ones(1, 7, 5), (4, 4), (1.0, 1.0), 1.0)


def test_filtered_back_projection_gives_the_disc_back():
    geometry = ScannerGeometry(views=360, channel=2.5)
    size, spacing = (96, 96), (1.2, 1.2)
    image = disc(size, spacing, (8.0, -4.0), 35.0)
    rays = project(image, spacing, geometry.angles(), geometry.offsets(size, spacing))
    y, x = grid(size, spacing)
    from_centre = torch.hypot(x - 8, y + 4)
    for kernel in KERNELS.values():
        filtered = filter_rays(rays, geometry.ray_spacing, kernel)
        found = backproject(filtered, size, spacing, geometry.ray_spacing)[0, 0] * math.pi / rays.shape[1]
        inside, outside = found[from_centre < 28], found[(from_centre > 42) & (from_centre < 55)]
        assert float(inside.mean()) == pytest.approx(1, abs=0.005), kernel.name
        assert float(outside.mean()) == pytest.approx(0, abs=0.005), kernel.name
        assert float(inside.std()) < 0.03, kernel.name


def test_filtered_back_projection_is_that_of_scikit_image():
    views, image = 90, smooth_image(65)
    angles, offsets = angles_of(views), torch.arange(65, dtype=torch.float64) - 32
    rays = project(image[None, None], (1.0, 1.0), angles, offsets, step=0.5)
    ours = backproject(filter_rays(rays, 1.0, FLAT), (65, 65), (1.0, 1.0), 1.0)[0, 0] * math.pi / views
    theirs = iradon(rays[0].numpy().T.astype(np.float64), theta=-np.rad2deg(angles.numpy()), circle=True)
    y, x = grid((65, 65), (1.0, 1.0))
    circle = (torch.hypot(x, y) < 28).numpy()
    assert np.abs(ours.numpy() - theirs)[circle].max() < 0.01
    assert np.abs(ours.numpy() - image.numpy())[circle].max() < 0.01


def test_the_filter_is_a_ramp_times_the_kernel():
    taps = filter_taps(200, 0.35, KERNELS["sharp"])
    frequency = torch.fft.rfftfreq(len(taps), 0.35, dtype=torch.float64)
    interpolation = torch.special.sinc(frequency * 0.35) ** 2
    wanted = frequency * KERNELS["sharp"].response(frequency)
    torch.testing.assert_close(torch.fft.rfft(taps).real * interpolation, wanted, rtol=0, atol=1.5e-3)


def test_rays_cover_the_slice_and_lie_half_a_channel_apart():
    geometry = ScannerGeometry()
    assert geometry.ray_spacing == pytest.approx(1.2858 * 595 / 1085.6 / 2)
    assert len(geometry.angles()) == 576
    for part in (1, 2, 4, 8):
        offsets = geometry.offsets((512, 512), (0.7, 0.7), part)
        assert float(offsets[-1]) > 0.7 * 256 * math.sqrt(2) - part * geometry.ray_spacing
        torch.testing.assert_close(offsets, -offsets.flip(0))
        assert len(offsets) * part == len(geometry.offsets((512, 512), (0.7, 0.7)))
    assert float(geometry.offsets((512, 512), (0.7, 0.7))[-1]) > 0.7 * 256 * math.sqrt(2)
    fan = geometry.fan_angle(torch.tensor([0.0, 297.5, 900.0]))
    torch.testing.assert_close(fan, torch.tensor([0.0, math.pi / 6, math.pi / 2]))
