import numpy as np
import pytest

from invkit.data.phantoms.phantom import (
    PHANTOM_VERSION,
    REGIONS,
    SPACING,
    Phantom,
    make_phantom,
    phantom_region,
    phantom_spacing,
)
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


def test_every_region_occurs_by_itself_at_its_share() -> None:
    drawn = [phantom_region(0, index) for index in range(1000)]
    assert sum(REGIONS.values()) == pytest.approx(1)
    for region, share in REGIONS.items():
        assert drawn.count(region) / 1000 == pytest.approx(share, abs=4 * (share * (1 - share) / 1000) ** 0.5)
        index = drawn.index(region)
        image = make_phantom(0, index, size=48)
        for other in REGIONS:
            same = np.array_equal(image, make_phantom(0, index, size=48, region=other))
            assert same == (other == region)


@pytest.mark.parametrize("index", range(8))
def test_spacing_is_that_of_the_region_and_keeps_the_field_of_view(index: int) -> None:
    spacing = phantom_spacing(0, index)
    low, high = SPACING[phantom_region(0, index)]
    assert low <= spacing <= high
    for size in (32, 128, 500):
        assert phantom_spacing(0, index, size=size) * size == pytest.approx(512 * spacing)


@pytest.mark.parametrize("region", REGIONS)
def test_pixels_of_any_size_show_as_large_a_body(region: str) -> None:
    coarse, fine = (
        [make_phantom(3, index, size=size, region=region) for index in range(3)] for size in (47, 160)
    )
    assert {image.shape for image in coarse} == {(47, 47)}
    # The size is part of the draw, so that bodies differ as two of a region do.
    shares = [np.mean([(image > -500).mean() for image in images]) for images in (coarse, fine)]
    assert shares[0] == pytest.approx(shares[1], abs=0.15)


# Means of 5 x 5 blocks of 32 pixels each, HU. Where they change, files trained on phantoms and caches are of other images:
# raise PHANTOM_VERSION with them. `python -m pytest -vv` shows what is found.
BLOCKS = {
    "thorax": [
        [-1000.00, -1000.00, -1000.00, -1000.00, -1000.00],
        [-850.27, -344.78, -159.87, -392.19, -831.86],
        [-517.70, -511.21, -10.28, -379.61, -529.74],
        [-823.55, -288.22, -70.48, -389.29, -916.37],
        [-942.30, -943.13, -932.40, -943.75, -943.28],
    ],
    "abdomen": [
        [-1000.00, -1000.00, -1000.00, -1000.00, -1000.00],
        [-862.58, -273.89, -242.21, -332.57, -848.56],
        [-575.98, 93.81, 105.88, 65.68, -595.13],
        [-830.61, -173.47, -45.33, -307.64, -924.36],
        [-970.51, -967.75, -975.20, -966.12, -970.93],
    ],
    "pelvis": [
        [-1000.00, -1000.00, -1000.00, -1000.00, -1000.00],
        [-850.97, -372.03, -227.08, -397.66, -832.02],
        [-458.43, 131.16, 2.76, 154.62, -454.72],
        [-828.19, -273.57, -213.18, -395.04, -912.15],
        [-948.72, -945.63, -948.63, -943.25, -949.95],
    ],
    "head": [
        [-1000.00, -557.89, -238.19, -648.70, -1000.00],
        [-826.31, 81.11, 27.36, 76.85, -925.31],
        [-578.51, 32.63, 29.92, 40.50, -657.97],
        [-795.85, 60.11, 31.99, 94.91, -911.12],
        [-1000.00, -684.32, -325.13, -663.66, -1000.00],
    ],
}


def test_no_pixel_changes_without_a_new_version() -> None:
    assert PHANTOM_VERSION == 2
    for region, expected in BLOCKS.items():
        image = make_phantom(0, 0, size=SIZE, region=region).astype(np.float64)
        found = image.reshape(5, 32, 5, 32).mean(axis=(1, 3))
        np.testing.assert_allclose(found, expected, atol=0.02, err_msg=region)


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
