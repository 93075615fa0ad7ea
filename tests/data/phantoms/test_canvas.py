"""Areas, centres and edges of what is painted, in closed form; textures and blur in mm."""

import math

import numpy as np
import pytest

from invkit.data.phantoms.canvas import AIR, ANGLES, TURN, Canvas, _spline_matrix, ellipse, wobble

SIZE, SPACING = 160, 0.8


def unbent(size=SIZE, spacing=SPACING, seed=0):
    """A canvas whose coordinates are straight, with edges of two pixels."""
    canvas = Canvas(size, spacing, np.random.default_rng(seed))
    line = ((np.arange(size) - (size - 1) / 2) * spacing).astype(np.float32)
    canvas.x, canvas.y = np.broadcast_to(line, (size, size)), np.broadcast_to(line[:, None], (size, size))
    canvas.softness = 2.0
    return canvas


def painted(canvas, shape, **options):
    """How much of each pixel is covered, and the area, mm²."""
    before = canvas.image.copy()
    canvas.paint(shape, AIR + 1000, **options)
    part = (canvas.image - before) / 1000
    return part, float(part.sum(dtype=np.float64)) * canvas.spacing**2


def area_of(radii):
    return float((radii**2).sum()) * math.pi / ANGLES


@pytest.mark.parametrize("power", [2.0, 2.5, 4.0])
def test_radii_are_those_of_a_superellipse(power):
    radii = ellipse(30, 20, power=power)
    onto = np.abs(radii * np.cos(TURN) / 30) ** power + np.abs(radii * np.sin(TURN) / 20) ** power
    np.testing.assert_allclose(onto, 1, rtol=1e-12)
    exact = 4 * 30 * 20 * math.gamma(1 + 1 / power) ** 2 / math.gamma(1 + 2 / power)
    assert area_of(radii) == pytest.approx(exact, rel=1e-4)
    turned = ellipse(30, 20, power=power, angle=math.pi / 2)
    np.testing.assert_allclose(turned, ellipse(20, 30, power=power), rtol=1e-9)


def test_wobble_is_a_factor_around_1_of_the_orders_asked_for():
    random = np.random.default_rng(0)
    curves = np.array([wobble(random, 0.05, low=3, high=8) for _ in range(3000)])
    assert curves.shape == (3000, ANGLES)
    # Order k has the variance 1 / (k - 2) of a mean over six: the sum of 1 / j up to 6 is 2.45.
    np.testing.assert_allclose(curves.std(axis=0), 0.05 * math.sqrt(2.45 / 6), rtol=0.06)
    spectrum = np.abs(np.fft.rfft(curves - 1, axis=1))
    others = [order for order in range(spectrum.shape[1]) if not 3 <= order <= 8]
    assert spectrum[:, others].max() < 1e-9 * spectrum.max()
    wild = wobble(np.random.default_rng(1), 5.0)
    assert (wild.min(), wild.max()) == (0.5, 1.6)


@pytest.mark.parametrize("softness", [0.5, 1.0, 4.0])
def test_a_disc_has_its_area_and_the_edge_its_width(softness):
    canvas = unbent()
    part, area = painted(canvas, canvas.star(3.1, -5.3, ellipse(22, 22)), softness=softness)
    width = SPACING * max(1.0, 2 * softness)
    # A linear edge of width w over a circle of radius r: the integral is pi (r² + w² / 12).
    assert area == pytest.approx(math.pi * (22**2 + width**2 / 12), rel=3e-4)
    distance = 22 - np.hypot(canvas.x - 3.1, canvas.y + 5.3)
    np.testing.assert_allclose(part, np.clip(distance / width + 0.5, 0, 1), atol=1e-5)


def test_an_ellipse_has_its_area():
    canvas = unbent()
    _, area = painted(canvas, canvas.star(5, -3, ellipse(30, 20)))
    assert area == pytest.approx(math.pi * 30 * 20, rel=2e-3)


@pytest.mark.parametrize(("r0", "r1"), [(4.0, 4.0), (7.0, 3.0)])
def test_a_tube_has_its_area(r0, r1):
    canvas = unbent()
    canvas.softness = 1.0
    _, area = painted(canvas, canvas.tube(-20, -10, 16, 17, r0, r1))
    length = math.hypot(36, 27)
    exact = (r0 + r1) * length + math.pi * (r0**2 + r1**2 + SPACING**2 / 6) / 2
    assert area == pytest.approx(exact, rel=2e-3)


@pytest.mark.parametrize("step", [0.1, 0.25, 0.5])
def test_a_part_of_a_pixel_moves_an_edge_by_that_part(step):
    rows, columns = np.indices((SIZE, SIZE)) * SPACING
    centres = []
    for shift in (0, step * SPACING):
        canvas = unbent()
        part, area = painted(canvas, canvas.star(shift, 2 * shift, ellipse(12, 12)))
        centres.append(
            [float((part * axis).sum(dtype=np.float64)) * SPACING**2 / area for axis in (columns, rows)]
        )
    moved = (np.array(centres[1]) - centres[0]) / SPACING
    np.testing.assert_allclose(moved, [step, 2 * step], atol=5e-3)


def test_coordinates_are_bent_smoothly_by_a_few_mm():
    for seed in range(5):
        canvas = Canvas(SIZE, SPACING, np.random.default_rng(seed))
        straight = unbent()
        for bent, line in ((canvas.x, straight.x), (canvas.y, straight.y)):
            off = bent - line
            assert 0.5 < off.std() < 5
            assert np.abs(off).max() < 15
            # Two neighbours stay in their order, so nothing folds over.
            assert np.abs(np.diff(off, axis=0)).max() < 0.6 * SPACING
            assert np.abs(np.diff(off, axis=1)).max() < 0.6 * SPACING


def test_nothing_is_painted_outside_of_a_container_or_of_the_image():
    canvas = unbent()
    container = canvas.star(0, 0, ellipse(20, 20))
    depth = np.full_like(canvas.image, -1)
    depth[container.box] = container.depth
    part, area = painted(canvas, canvas.star(15, 0, ellipse(20, 20)), inside=depth)
    assert part[depth < -SPACING].max() == 0
    lens = 2 * 20**2 * math.acos(15 / 40) - 15 / 2 * math.sqrt(4 * 20**2 - 15**2)
    assert area == pytest.approx(lens, rel=5e-3)
    for place in (0.0, canvas.half, 3 * canvas.half):
        corner = canvas.star(place, -place, ellipse(9, 9))
        rows, columns = corner.box
        assert 0 <= rows.start <= rows.stop <= SIZE
        assert 0 <= columns.start <= columns.stop <= SIZE
        assert canvas.image[corner.box].shape == corner.depth.shape


def test_painting_covers_and_adding_keeps_what_is_there():
    canvas = unbent()
    below = np.linspace(-100, 100, SIZE, dtype=np.float32)[:, None] + canvas.x
    canvas.image[:] = below
    spot = canvas.star(0, 0, ellipse(10, 10))
    canvas.add(spot, 30)
    part = np.zeros_like(below)
    part[spot.box] = canvas.cover(spot.depth)
    np.testing.assert_allclose(canvas.image - below, 30 * part, atol=1e-3)
    canvas.paint(spot, np.full(spot.depth.shape, 500.0))
    assert canvas.image[SIZE // 2, SIZE // 2] == 500
    assert canvas.image[0, 0] == below[0, 0]


@pytest.mark.parametrize(
    ("name", "peak"), [("grain", 0.28), ("fibres", 0.09), ("clouds", 0.0), ("parenchyma", 0.0)]
)
def test_textures_have_unit_variance_and_their_scale_in_mm(name, peak):
    for size, spacing in ((320, 0.5), (160, 1.0)):
        canvas = Canvas(size, spacing, np.random.default_rng(0))
        field = canvas._textures[name]
        assert field.mean() == pytest.approx(0, abs=1e-4)
        assert field.std() == pytest.approx(1, abs=1e-3)
        power = np.abs(np.fft.fft2(field)) ** 2
        frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size, spacing), np.fft.fftfreq(size, spacing)))
        rings = [
            power[(frequency >= low) & (frequency < low + 0.02)].mean() for low in np.arange(0, 0.46, 0.02)
        ]
        assert abs((int(np.argmax(rings)) + 0.5) * 0.02 - peak) <= 0.05


def test_two_windows_of_a_texture_differ():
    canvas = unbent()
    random = np.random.default_rng(0)
    box = canvas.box(-20, -20, 20, 20)
    first, second = canvas.texture("grain", box, random), canvas.texture("grain", box, random)
    assert first.shape == canvas.image[box].shape
    assert np.abs(first - second).max() > 0.5


def test_splines_add_up_to_1():
    np.testing.assert_allclose(_spline_matrix(77, 6).sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize(("blur", "pixels"), [(0.48, 0.6), (0.1, 0.35), (5.0, 1.4)])
def test_the_scanner_blurs_by_its_width_and_loses_nothing(blur, pixels):
    canvas = unbent()
    canvas.shading, canvas.blur = 0.0, blur
    canvas.image[40, 60] += 3000
    spread = canvas.finish().astype(np.float64) - AIR
    assert spread.sum() == pytest.approx(3000, rel=1e-3)
    rows, columns = np.indices(spread.shape)
    assert (spread * rows).sum() / spread.sum() == pytest.approx(40, abs=1e-3)
    weights = np.exp(-0.5 * (np.arange(-9, 10) / pixels) ** 2)
    weights[np.abs(np.arange(-9, 10)) > int(3 * pixels + 0.5)] = 0
    variance = (weights * np.arange(-9, 10) ** 2).sum() / weights.sum()
    assert (spread * (columns - 60) ** 2).sum() / spread.sum() == pytest.approx(variance, rel=2e-3)


def test_shading_spares_the_air():
    canvas = unbent()
    canvas.shading = 20.0
    canvas.image[:, :80] = 0
    image = canvas.finish()
    np.testing.assert_allclose(image[:, 90:], AIR, atol=1e-3)
    assert image[:, :70].std() > 5
