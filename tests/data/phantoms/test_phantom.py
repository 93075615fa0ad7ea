import numpy as np
import pytest

from invkit.data.phantoms.canvas import Canvas, ellipse
from invkit.data.phantoms.phantom import REGIONS, Phantom, make_phantom, phantom_spacing
from invkit.errors import UsageError

SIZE = 160


@pytest.mark.parametrize("region", REGIONS)
def test_a_phantom_looks_like_ct(region: str) -> None:
    image = make_phantom(0, 3, size=SIZE, region=region)
    assert image.shape == (SIZE, SIZE)
    assert image.dtype == np.float32
    assert image.min() >= -1024
    assert image.max() <= 3071
    assert np.isfinite(image).all()
    corners = image[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert np.abs(corners + 1000).max() < 60
    body = image > -500
    assert 0.1 < body.mean() < 0.75
    assert ((image > -20) & (image < 90)).mean() > 0.05  # soft tissue
    assert (image > 250).mean() > 0.003  # bone
    if region != "head":
        assert ((image > -130) & (image < -60)).mean() > 0.02  # fat
    if region == "thorax":
        assert ((image > -950) & (image < -600))[40:120, 30:130].mean() > 0.1  # lung


def test_it_is_a_function_of_seed_and_index_alone() -> None:
    first = make_phantom(7, 5, size=96)
    make_phantom(1, 2, size=96)
    np.testing.assert_array_equal(first, make_phantom(7, 5, size=96))
    assert np.abs(first - make_phantom(7, 6, size=96)).max() > 100
    assert np.abs(first - make_phantom(8, 5, size=96)).max() > 100


def test_every_region_occurs_by_itself() -> None:
    default = [make_phantom(0, index, size=48) for index in range(30)]
    for region in REGIONS:
        same = [
            np.array_equal(image, make_phantom(0, i, size=48, region=region))
            for i, image in enumerate(default)
        ]
        assert 0 < sum(same) < 25


def test_spacing_keeps_the_field_of_view() -> None:
    assert phantom_spacing(0, 1, size=128) == pytest.approx(4 * phantom_spacing(0, 1))
    assert 0.4 < phantom_spacing(0, 1) < 0.9


def test_a_cache_gives_the_same_pixels_and_survives_damage(tmp_path) -> None:
    plain, cached = Phantom(0, 4, 64), Phantom(0, 4, 64, tmp_path / "cache")
    np.testing.assert_array_equal(plain(), cached())
    np.testing.assert_array_equal(plain(), cached())
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    np.testing.assert_array_equal(plain(), cached())
    np.testing.assert_array_equal(plain(), np.load(file))


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(UsageError, match="thorax, abdomen"):
        make_phantom(0, 0, region="arm")
    with pytest.raises(UsageError, match="at least 32"):
        make_phantom(0, 0, size=8)


def test_painted_ellipse_has_its_area_and_soft_edges() -> None:
    canvas = Canvas(128, 1.0, np.random.default_rng(0))
    canvas.softness = 1.0
    canvas.paint(canvas.star(5, -3, ellipse(30, 20)), 0.0)
    area = float((canvas.image + 1000).sum() / 1000)
    assert area == pytest.approx(np.pi * 30 * 20, rel=0.2)  # the canvas is bent at random
    assert ((canvas.image > -999) & (canvas.image < -1)).any()
