"""The head: brain in its HU within a closed skull within the scalp, over many seeds."""

import numpy as np
import pytest
from scipy import ndimage

from invkit.data.phantoms.phantom import make_phantom

SIZE = 192


@pytest.fixture(params=range(4))
def image(request):
    return make_phantom(0, request.param, size=SIZE, region="head")


def test_the_skull_is_closed_around_the_brain(image):
    inside, _ = ndimage.label(image < 350)
    brain = inside == inside[SIZE // 2, SIZE // 2]
    assert not brain[[0, -1], :].any() and not brain[:, [0, -1]].any()
    assert 0.25 < brain.mean() < 0.6
    around = ndimage.binary_dilation(brain, iterations=5) & ~ndimage.binary_dilation(brain, iterations=1)
    assert np.median(image[around]) > 450


def test_the_brain_is_of_fluid_white_and_grey_matter(image):
    labels, _ = ndimage.label(image < 350)
    brain = ndimage.binary_erosion(labels == labels[SIZE // 2, SIZE // 2], iterations=5)
    values = image[brain]
    low, middle, high = np.percentile(values, [2, 50, 95])
    assert 0 < low < 28  # ventricles and sulci
    assert 24 < middle < 42
    assert 28 < high < 80  # grey matter, falx, blood
    assert (values > 500).mean() < 0.01


def test_nothing_but_air_and_the_table_is_outside_of_the_scalp(image):
    head = ndimage.binary_fill_holes(image > -300)
    labels, count = ndimage.label(head)
    sizes = ndimage.sum_labels(head, labels, range(1, count + 1))
    largest = labels == 1 + int(np.argmax(sizes))
    above = ~ndimage.binary_dilation(largest, iterations=4)
    above[SIZE // 2 :] = False  # the table lies below
    np.testing.assert_allclose(image[above], -1000, atol=1)
