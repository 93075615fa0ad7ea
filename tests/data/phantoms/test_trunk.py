"""Abdomen and pelvis: gas and organs in the cavity, hip bones on both sides, soft tissue in its HU."""

import numpy as np
import pytest
from scipy import ndimage

from invkit.data.phantoms import trunk
from invkit.data.phantoms.phantom import make_phantom

SIZE = 192


@pytest.fixture(
    params=[(region, index) for region in ("abdomen", "pelvis") for index in range(4)], scope="module"
)
def drawn(request):
    """What is shown, an image, and the body that was drawn in it."""
    region, index = request.param
    kept = []
    plain = trunk.draw_body
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            trunk, "draw_body", lambda *given, **more: kept.append(plain(*given, **more)) or kept[-1]
        )
        image = make_phantom(2, index, size=SIZE, region=region)
    return region, image, kept[0]


def test_gas_lies_in_the_cavity(drawn):
    _, image, body = drawn
    gas = (body.depth > 4) & (image < -500)
    assert body.cavity[gas].min(initial=np.inf) > -1


def test_what_fills_the_body_is_fat_and_soft_tissue(drawn):
    _, image, body = drawn
    values = image[body.depth > 4]
    fat, soft = ((values > -130) & (values < -50)).mean(), ((values > -20) & (values < 250)).mean()
    assert fat > 0.08
    assert soft > 0.2
    assert fat + soft > 0.6
    wall = image[(body.depth > 4) & (body.cavity < -3)]
    assert -120 < np.median(wall) < 70


def test_hips_stand_on_both_sides_and_a_spine_in_the_middle(drawn):
    region, image, body = drawn
    bone = ndimage.binary_opening((image > 250) & (body.depth > 4))
    columns = np.nonzero(bone)[1] / SIZE - 0.5
    assert columns.size
    middle = (np.abs(columns) < 0.12).mean()
    if region == "abdomen":
        assert middle > 0.25
    else:
        assert (columns < -0.12).mean() > 0.15 and (columns > 0.12).mean() > 0.15


def test_outside_of_the_skin_is_air_above_the_table(drawn):
    _, image, body = drawn
    above = body.depth < -5
    above[SIZE // 2 :] = False
    np.testing.assert_allclose(image[above], -1000, atol=1)


def test_a_bump_is_1_at_its_top_and_has_its_width():
    curve = trunk.bump(np.pi / 2, 0.3)
    assert curve.argmax() == 180 and curve.max() == pytest.approx(1)
    # For small angles it is a Gaussian of that width.
    assert curve[180 + 34] == pytest.approx(np.exp(-0.5), abs=0.01)
    assert curve[540] == pytest.approx(np.exp(-2 / 0.09))
