"""Places in tissues of an image that is made of them."""

import pytest
import torch

from invkit.images.disc import disc
from invkit.images.tissue import TISSUES, by_area, places_for

SOFT, LUNG, BONE = TISSUES


def image(side=96):
    """Return soft tissue with a lung of radius 20 and a bone of radius 12, air around them, and noise of 30 HU."""
    found = torch.full((side, side), -1000.0, dtype=torch.float64)
    found[4:-4, 4:-4] = 40
    for centre, radius, level in (((34, 34), 20, -800), ((68, 68), 12, 600)):
        inside = disc(side, side, centre, radius)
        found = inside * level + (1 - inside) * found
    noise = torch.randn(side, side, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (found + 30 * noise)[None, None]


def test_the_commonest_tissue_comes_first():
    assert [tissue.name for tissue in by_area([image()])] == ["soft tissue", "lung", "bone"]
    lung = torch.full((1, 1, 16, 16), -800.0)
    assert by_area([image()[..., 20:40, 20:40], lung])[0] == LUNG


@pytest.mark.parametrize(("tissue", "centre", "radius"), [(LUNG, (34, 34), 20), (BONE, (68, 68), 12)])
def test_discs_lie_in_their_tissue(tissue, centre, radius):
    places = places_for(image(), tissue, (1.0, 4.0, 8.0), 30, seed=0)
    for size, found in places.items():
        assert len(found) == 30
        away = (found - torch.tensor(centre)).double().square().sum(1).sqrt()
        # At most a tenth of a disc's pixels is something else.
        assert float(away.max()) <= radius - 0.6 * size + 1


def test_a_mixture_of_lung_and_bone_is_no_soft_tissue():
    striped = torch.full((1, 1, 40, 40), -800.0)
    striped[..., ::8], striped[..., 1::8], striped[..., 2::8], striped[..., 3::8] = 860, 860, 860, 860
    assert abs(float(striped.mean())) < 50
    assert places_for(striped, SOFT, (4.0,), 10, seed=0) == {}


def test_places_of_large_discs_serve_small_ones():
    few = image()
    few[..., 16:, :] = -1000
    few[..., :, 40:] = -1000  # 12 rows of soft tissue: no room for a radius of 8, and little for 6
    places = places_for(few, SOFT, (1.0, 4.0, 6.0, 8.0), 40, seed=0)
    assert sorted(places) == [1.0, 4.0, 6.0]
    assert len(places[1.0]) == 40
    rows = {size: [tuple(place) for place in found.tolist()] for size, found in places.items()}
    assert rows[4.0][: len(rows[6.0])] == rows[6.0]
    assert rows[1.0][: len(rows[4.0])] == rows[4.0]
    assert all(len(set(found)) == len(found) for found in rows.values())


def test_discs_lie_in_a_part_of_the_image_and_none_is_found_where_there_is_no_room():
    flat = torch.full((1, 1, 40, 50), 40.0)
    part = slice(8, 32), slice(10, 40)
    (found,) = places_for(flat, SOFT, (3.0,), 10_000, seed=0, part=part).values()
    assert found.amin(0).tolist() == [11, 13] and found.amax(0).tolist() == [28, 36]
    assert len(found) == 18 * 24
    for nowhere in ((slice(18, 22), slice(18, 22)), (slice(30, 10), slice(30, 20))):
        assert places_for(flat, SOFT, (3.0,), 4, seed=0, part=nowhere) == {}
    assert places_for(flat, LUNG, (3.0,), 4, seed=0) == {}
    assert torch.equal(*(places_for(flat, SOFT, (3.0,), 4, seed=1)[3.0] for _ in range(2)))
