"""The thorax: two lungs in the cavity, everything within the skin, bone in the wall."""

import numpy as np
import pytest
from scipy import ndimage

from invkit.data.phantoms import thorax
from invkit.data.phantoms.phantom import make_phantom

SIZE = 192


@pytest.fixture(params=range(4), scope="module")
def drawn(request):
    """An image, and the body that was drawn in it."""
    kept = []
    plain = thorax.draw_body
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            thorax, "draw_body", lambda *given, **more: kept.append(plain(*given, **more)) or kept[-1]
        )
        image = make_phantom(1, request.param, size=SIZE, region="thorax")
    return image, kept[0]


def test_air_in_the_body_lies_in_the_cavity(drawn):
    image, body = drawn
    within = (body.depth > 4) & (image < -500)
    assert within.mean() > 0.03
    assert body.cavity[within].min() > 0


def test_there_are_two_lungs(drawn):
    image, body = drawn
    labels, count = ndimage.label(ndimage.binary_opening((body.cavity > 0) & (image < -600)))
    sizes = sorted(ndimage.sum_labels(np.ones_like(image), labels, range(1, count + 1)))
    assert sizes[-2] > 0.2 * sizes[-1]
    for number, size in enumerate(ndimage.sum_labels(np.ones_like(image), labels, range(1, count + 1)), 1):
        if size >= sizes[-2]:
            columns = np.nonzero(labels == number)[1]
            side = np.sign(columns.mean() - SIZE / 2)
            assert ((columns - SIZE / 2) * side > -0.08 * SIZE).mean() > 0.97
    lung = image[(body.cavity > 8) & (image < -600)]
    assert -940 < np.median(lung) < -700


def test_bone_stands_around_the_lungs_and_behind_them(drawn):
    image, body = drawn
    bone = (image > 350) & (body.depth > 0)
    rows = np.nonzero(bone)[0]
    assert 0.002 < bone.mean() < 0.08
    assert (rows > SIZE * 0.5).any() and (rows < SIZE * 0.5).any()


def test_outside_of_the_skin_is_air_above_the_table(drawn):
    image, body = drawn
    above = body.depth < -5
    above[SIZE // 2 :] = False
    np.testing.assert_allclose(image[above], -1000, atol=1)
    assert image[body.depth > 3].min() >= -1024
