"""Places cut out of an image: what is near them is theirs, and f of it is that of the whole image."""

import pytest
import torch
from torch import nn

from invkit.fiber.tangent import Tangent
from invkit.measures.output.spots import reach_of, spots_of
from invkit.noise.covariance import NoiseCovariance
from invkit.split.split import Split
from invkit.tolerance.layer import TolerancedLayer

SIDE = 112


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 4, 5, padding=2), nn.ReLU(), nn.Conv2d(4, 1, 5, padding=2))


@pytest.fixture(scope="module")
def layer():
    rows = torch.linspace(10, 30, SIDE)[:, None].expand(SIDE, SIDE).contiguous()
    covariance = NoiseCovariance(rows)
    x = 40 + covariance.draws(1, torch.Generator().manual_seed(0))
    split = Split(network(), "input")
    # Only a part of the image is to vary, as for one cut out of a larger one.
    inner = (slice(20, 100), slice(30, 90))
    return TolerancedLayer.of(
        split, x, split.denoiser(x), covariance, seed=0, tangent=Tangent(split.phi_grad), inner=inner
    )


@pytest.fixture(scope="module")
def spots(layer):
    (found,) = spots_of([layer], 6, seed=0)
    return found


def places(layer, spots):
    """Return where the cuts begin in the image; f(x) is nowhere twice the same."""
    windows = layer.f_x[0, 0].unfold(0, spots.images.shape[-2], 1).unfold(1, spots.images.shape[-1], 1)
    return [(windows == image[0]).flatten(2).all(2).nonzero()[0] for image in spots.images]


def test_places_lie_where_the_image_may_vary_and_far_enough_from_the_border(layer, spots):
    corners = torch.stack(places(layer, spots))
    centres = corners + spots.centres
    assert len(centres) == 6 and spots.radius == 8
    room = layer.frame.pixels + reach_of(8)
    assert (centres >= torch.tensor([max(20 + 8, room), max(30 + 8, room)])).all()
    assert (centres <= torch.tensor([min(100 - 9, SIDE - 1 - room), min(90 - 9, SIDE - 1 - room)])).all()


def test_the_noise_is_that_of_the_place(layer, spots):
    for (row, column), deviation in zip(places(layer, spots), spots.covariance.deviation, strict=True):
        size = deviation.shape[-2:]
        expected = layer.covariance.deviation[row : row + size[0], column : column + size[1]]
        torch.testing.assert_close(deviation[0], expected)


@pytest.mark.parametrize("radius", [1.0, 4.0])
def test_f_near_a_place_is_that_of_all_around_it(spots, radius):
    reach = reach_of(radius)
    near, cuts = spots.near(reach)
    assert near.images.shape[-1] < spots.images.shape[-1] and near.images.shape[-1] % 8 == 0
    whole, part = spots.output(spots.images), near.output(near.images)
    for index, (rows, columns) in enumerate(cuts):
        assert near.centres[index].tolist() == [
            int(spots.centres[index, 0]) - rows.start,
            int(spots.centres[index, 1]) - columns.start,
        ]
        row, column = near.centres[index].tolist()
        inside = (slice(row - reach, row + reach + 1), slice(column - reach, column + reach + 1))
        torch.testing.assert_close(
            part[index, 0][inside], whole[index, 0, rows, columns][inside], rtol=0, atol=0.2
        )


def test_a_disc_lies_about_its_centre(spots):
    discs = spots.disc(4.0)
    for shape, (row, column) in zip(discs[:, 0], spots.centres.tolist(), strict=True):
        assert float(shape.sum()) == pytest.approx(torch.pi * 16, rel=0.02)
        assert float(shape[row, column]) == pytest.approx(float(shape.max()), rel=0.2)


def test_scans_depend_on_the_seed_and_on_nothing_before(spots):
    first, longer, other = (list(spots.noise(count, seed)) for count, seed in ((2, 0), (3, 0), (2, 1)))
    assert torch.equal(first[1], longer[1]) and not torch.equal(first[1], other[1])
