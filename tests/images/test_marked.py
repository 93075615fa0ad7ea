"""What a rectangle holds above its surroundings."""

import pytest
import torch

from invkit.images.box import Box
from invkit.images.disc import disc
from invkit.images.marked import above_surroundings, contrast_of

BOX = Box(8, 12, 24, 20)
ROWS, COLUMNS = (axis.double() for axis in torch.meshgrid(torch.arange(48), torch.arange(64), indexing="ij"))


def test_a_harmonic_background_is_taken_away_whatever_its_size():
    background = 300 + 5 * ROWS - 3 * COLUMNS + 0.2 * (ROWS**2 - COLUMNS**2)
    found = above_surroundings(background[None, None], BOX)
    # A Gaussian leaves harmonic functions as they are.
    assert float(found.abs().max()) < 1e-3 * float(background.std())


def test_a_disc_is_found_on_a_slope_and_nothing_outside():
    shape = disc(48, 64, (21.5, 19.5), 5.0)
    found = above_surroundings((40 * shape + 2 * COLUMNS)[None, None], BOX)
    assert float(found[0, 0, 21, 19]) == pytest.approx(40, abs=0.5)
    assert float(contrast_of(found, BOX)) == pytest.approx(40, rel=0.15)
    outside = torch.ones(48, 64, dtype=torch.bool)
    outside[13:31, 9:31] = False
    assert not bool(found[0, 0][outside].any())
    assert float((found[0, 0] - 40 * shape).norm()) < 0.4 * 40 * float(shape.norm())


def test_it_is_linear_in_the_image():
    a, b = torch.randn(2, 2, 1, 48, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = above_surroundings(2 * a - b, BOX)
    assert torch.allclose(whole, 2 * above_surroundings(a, BOX) - above_surroundings(b, BOX))
    assert contrast_of(whole, BOX).shape == (2,)
