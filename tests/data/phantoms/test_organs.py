"""Parts of the body lie where they should, in HU that their tissue has."""

import math
from collections import Counter

import numpy as np
import pytest

from invkit.data.phantoms import organs
from invkit.data.phantoms.canvas import AIR, ANGLES, Canvas, Shape, ellipse

SEEDS = range(4)


@pytest.fixture(params=SEEDS)
def random(request):
    return np.random.default_rng(request.param)


@pytest.fixture
def canvas(random):
    """256 pixels of 0.8 mm, full of fat."""
    canvas = Canvas(256, 0.8, random)
    canvas.image[:] = -100
    return canvas


def everywhere(canvas):
    return np.full_like(canvas.image, 1e3)


def test_phases_of_contrast_have_their_shares_and_their_order():
    random = np.random.default_rng(0)
    found = [organs.contrast(random) for _ in range(4000)]
    phases = Counter()
    for hu in found:
        if hu["artery"] == hu["vein"]:
            phases["none"] += 1
            assert 35 <= hu["artery"] <= 50 and 35 <= hu["liver"] <= 68
        elif hu["artery"] >= 220:
            phases["arterial"] += 1
            assert hu["vein"] <= 120 < hu["cortex"] and hu["artery"] <= 400
        else:
            phases["portal"] += 1
            assert 130 <= hu["vein"] <= 190 and 0.9 <= hu["artery"] / hu["vein"] <= 1.1
            assert hu["liver"] > 80
    for phase, share in (("none", 0.45), ("portal", 0.35), ("arterial", 0.2)):
        assert phases[phase] / 4000 == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 4000))


def test_the_wall_of_the_body_lies_in_layers_that_do_not_overlap(random):
    canvas = Canvas(320, 1.2, random)
    fat, muscle = np.full(ANGLES, 18.0), np.full(ANGLES, 16.0)
    body = organs.draw_body(canvas, random, 150, 110, power=2.3, fat=fat, muscle=muscle)
    np.testing.assert_allclose(body.depth - body.cavity, 34, atol=1e-3)
    np.testing.assert_allclose(body.wall - body.inner, 16, atol=1e-9)
    assert (body.a, body.b) == (body.inner[0], body.inner[ANGLES // 4])
    inside = canvas.image
    np.testing.assert_array_equal(inside[body.depth < -4], AIR)
    layers = {
        "fat": (body.depth > 6) & (body.depth < 14),
        "muscle": (body.depth > 22) & (body.cavity < -4),
        "cavity": body.cavity > 4,
    }
    middles = {name: float(np.median(inside[where])) for name, where in layers.items()}
    assert -125 < middles["fat"] < -70
    assert -5 < middles["muscle"] < 70
    assert -125 < middles["cavity"] < -60
    for angle in (0.0, 1.0, 4.0):
        x, y = body.at(angle, 5)
        place = round(angle / (2 * math.pi) * ANGLES) % ANGLES
        assert math.hypot(x, y) == pytest.approx(body.wall[place] - 5)
        assert math.atan2(y, x) % (2 * math.pi) == pytest.approx(angle)


def test_a_bone_is_a_shell_around_its_marrow(canvas, random):
    shape = canvas.star(0, 0, ellipse(30, 24))
    organs.bone(canvas, random, shape, cortex=4.0, hard=900, marrow=200)
    window = canvas.image[shape.box]
    shell = window[(shape.depth > 1.9) & (shape.depth < 2.1)]
    marrow = window[shape.depth > 9]
    assert np.median(shell) == pytest.approx(900, rel=0.05)
    assert marrow.mean() == pytest.approx(200, rel=0.2)
    assert 0.1 < marrow.std() / 200 < 0.6  # its grain
    assert (canvas.image == -100).mean() > 0.9


def test_an_organ_has_its_value_and_its_texture(canvas, random):
    shape = canvas.star(0, 0, ellipse(80, 80))
    organs.organ(canvas, random, shape, 55, texture=6)
    inside = canvas.image[shape.box][shape.depth > 5]
    assert inside.mean() == pytest.approx(55, abs=4)
    assert inside.std() == pytest.approx(6, rel=0.35)


def test_a_vessel_has_a_wall_and_plaques_only_where_it_is_calcified(canvas, random):
    organs.vessel(canvas, random, -40, 0, 12, 160)
    organs.vessel(canvas, random, 40, 0, 12, 30)
    assert canvas.image.max() == pytest.approx(160)
    middle = [canvas.image[np.hypot(canvas.x - x, canvas.y) < 6] for x in (-40, 40)]
    np.testing.assert_allclose(middle[0], 160)
    np.testing.assert_allclose(middle[1], 30)
    before = canvas.image.copy()
    organs.vessel(canvas, random, -40, 0, 12, 160, calcified=1.0)
    hard = canvas.image > 220
    assert hard.any()
    away = np.hypot(canvas.x + 40, canvas.y)[hard]
    assert 7 < away.min() <= away.max() < 16  # in its wall
    assert before.max() < 220


def test_a_vertebra_has_body_canal_and_cord(canvas, random):
    organs.vertebra(canvas, random, 0, -20, 20)

    def around(x, y, radius):
        return canvas.image[np.hypot(canvas.x - x, canvas.y - y) < radius]

    assert 80 < around(0, -20, 10).mean() < 320
    assert around(0, -20, 24).max() > 400  # its cortex
    assert np.isclose(around(0, 0, 13), -30, atol=1).sum() > 8  # the fat of the canal
    assert 20 <= around(0, 2, 3).min() <= around(0, 2, 3).max() <= 45


def test_a_rib_lies_in_the_wall_at_its_angle_and_depth(random):
    canvas = Canvas(320, 1.2, random)
    body = organs.draw_body(
        canvas, random, 150, 110, power=2.3, fat=np.full(ANGLES, 10.0), muscle=np.full(ANGLES, 20.0)
    )
    organs.rib(canvas, random, body, 0.5, 15, inset=9)
    weight = np.clip(canvas.image - 90, 0, None)
    assert weight.sum() > 0
    centre = [float((weight * axis).sum() / weight.sum()) for axis in (canvas.x, canvas.y)]
    assert math.dist(centre, body.at(0.5, 9)) < 2.5
    assert body.cavity[weight > 200].max() < 4


def test_lesions_are_faint_and_small_and_lie_deep_in_the_organ(random):
    for _ in range(8):
        canvas = Canvas(256, 0.8, random)
        canvas.image[:] = 50
        shape = canvas.star(10, -5, ellipse(50, 40))
        organs.lesions(canvas, random, shape, 1)
        change = canvas.image - 50
        assert np.all(change >= 0) or np.all(change <= 0)
        size = np.abs(change).max()
        assert 4 < size <= 40
        rows, columns = np.nonzero(np.abs(change) > size / 2)
        assert 2 * math.sqrt(rows.size / math.pi) * 0.8 <= 21
        centre = round(float(rows.mean())), round(float(columns.mean()))
        assert shape.depth[centre[0] - shape.box[0].start, centre[1] - shape.box[1].start] > 4


def test_a_thin_organ_has_no_lesions(canvas, random):
    thin = canvas.star(0, 0, ellipse(5, 5))
    organs.lesions(canvas, random, thin, 5)
    wide = canvas.star(0, 0, ellipse(40, 40))
    organs.lesions(canvas, random, wide, 5, inside=everywhere(canvas) * 0 + 5)
    assert (canvas.image == -100).all()


def test_gas_in_bowel_lies_above_a_level(random):
    found = 0
    for _ in range(12):
        canvas = Canvas(128, 0.8, random)
        canvas.softness = 1.0
        organs.bowel(canvas, random, 0, 0, 24, inside=everywhere(canvas), gas=1.0)
        gas = canvas.image < -940
        if not gas.any() or canvas.image.max() < -900:
            continue
        bowel = np.hypot(canvas.x, canvas.y) < 10
        lowest = canvas.straight_y[gas & bowel].max() if (gas & bowel).any() else -np.inf
        below = canvas.image[bowel & (canvas.straight_y > lowest + 1.6)]
        assert below.size == 0 or below.min() > -700
        found += bool(below.size)
    assert found


def test_the_table_lies_under_the_back_and_covers_no_body(random):
    for _ in range(5):
        canvas = Canvas(256, 1.5, random)
        body = canvas.star(0, 0, ellipse(120, 90))
        canvas.paint(body, 40)
        before = canvas.image.copy()
        organs.table(canvas, random, 60)
        changed = np.abs(canvas.image - before) > 1
        assert not changed[before > -500].any()
        assert not changed[canvas.straight_y < 55].any()


def test_parts_stay_in_their_container(canvas, random):
    container = canvas.star(0, 0, ellipse(30, 30))
    depth = np.full_like(canvas.image, -1)
    depth[container.box] = container.depth
    shape = canvas.star(25, 0, ellipse(30, 20))
    organs.organ(canvas, random, shape, 300, inside=depth)
    organs.bone(canvas, random, Shape(shape.box, shape.depth - 3), inside=depth)
    organs.bowel(canvas, random, -25, 0, 20, inside=depth, gas=1.0)
    assert (canvas.image[depth < -3] == -100).all()
    assert (canvas.image[depth > 3] != -100).any()
