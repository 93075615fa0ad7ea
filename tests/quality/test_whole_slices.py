"""On an image of several tiles the maps have no seams: a step at a tile's border is like any other step."""

import pytest
import torch

import invkit
from invkit.data.slices import load_slices
from invkit.sampling.tiles import Tiling

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def result():
    phantom = load_slices(["phantoms:12"], size=320).part("test").slices[0]
    return invkit.analyze("yang2018", "3", phantom.image, dose=0.25, samples=100, refine="none")


def steps(image, axis):
    """Mean size of the step between neighbouring rows or columns."""
    return image.diff(dim=axis).abs().mean(1 - axis)


@pytest.mark.parametrize("which", ["mean", "std"])
@pytest.mark.parametrize("axis", [0, 1])
def test_steps_at_the_borders_of_tiles_are_within_those_of_the_map(result, which, axis):
    found = steps(getattr(result, which)[0, 0], axis)
    starts = sorted({corner[axis] for corner in Tiling(320, 320, 128).corners})
    borders = [start - 1 for start in starts[1:]] + [start + 127 for start in starts[:-1]]
    inside = [i for i in range(len(found)) if all(abs(i - border) > 2 for border in borders)]
    assert float(found[borders].mean()) < float(torch.quantile(found[inside], 0.9))
    assert float(found[borders].max()) < 1.1 * float(found[inside].max())


def test_the_deviation_is_no_smaller_where_tiles_overlap(result):
    covered = torch.zeros(320, 320)
    for row, column in Tiling(320, 320, 128).corners:
        covered[row : row + 128, column : column + 128] += 1
    body = result.x[0, 0] > -500
    several, one = (
        (result.std[0, 0][body & part]).square().mean().sqrt() for part in (covered > 1, covered == 1)
    )
    assert 0.85 < float(several / one) < 1.15
