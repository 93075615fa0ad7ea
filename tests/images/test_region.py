"""Regions: what is meant by them, what is refused, and that figures are those of their pixels."""

import numpy as np
import pytest
import torch
from PIL import Image

from invkit.errors import ImageError, UsageError
from invkit.images.region import choose_region
from invkit.sampling.spread import sample_spread

SIZE = (40, 60)


def test_a_rectangle_is_column_row_width_height():
    image = torch.arange(40 * 60).view(1, 40, 60)
    for spec in ("5,10,20,8", [5, 10, 20, 8], (5, 10, 20, 8)):
        region = choose_region(spec, SIZE)
        assert region.mask.sum() == 160
        assert torch.equal(region.crop(image), image[:, 10:18, 5:25])
        assert torch.equal(region.pixels(image), image[:, 10:18, 5:25].reshape(1, -1))
        assert "20 x 8 pixels" in region.description


def test_a_mask_can_be_an_array_or_a_file(tmp_path):
    mask = np.zeros(SIZE, np.uint8)
    mask[3:20, 7:30] = 200
    mask[10, 10] = 0
    np.save(tmp_path / "mask.npy", mask)
    Image.fromarray(mask).save(tmp_path / "mask.png")
    for spec in (mask, torch.from_numpy(mask), tmp_path / "mask.npy", str(tmp_path / "mask.png")):
        region = choose_region(spec, SIZE)
        assert np.array_equal(region.mask.numpy(), mask > 0)
        assert region.crop(region.mask).shape == (17, 23)


def test_nothing_means_the_whole_image():
    assert choose_region(None, SIZE) is None


@pytest.mark.parametrize(
    ("spec", "error", "match"),
    [
        ("5,10,20", UsageError, "four whole numbers"),
        ("a,b,c,d", UsageError, "four whole numbers"),
        ("50,0,20,20", UsageError, "extends beyond the image of 60 x 40"),
        ("-1,0,20,20", UsageError, "extends beyond the image"),
        ("0,0,4,20", ImageError, "too small"),
        (np.zeros(SIZE), ImageError, "too small"),
        (np.ones((40, 59)), ImageError, "must have the image's shape"),
        ("nowhere.npy", ImageError, "nowhere.npy cannot be read"),
        ("nowhere.png", ImageError, "nowhere.png cannot be read"),
    ],
)
def test_what_cannot_be_meant_is_one_typed_error(spec, error, match):
    with pytest.raises(error, match=match):
        choose_region(spec, SIZE)


def test_a_pickle_is_no_mask(tmp_path):
    np.save(tmp_path / "mask.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ImageError, match="cannot be read"):
        choose_region(tmp_path / "mask.npy", SIZE)


def test_the_spread_is_that_of_its_pixels():
    samples = torch.randn(30, 1, *SIZE, generator=torch.Generator().manual_seed(0))
    samples[..., 20:] *= 5
    region = choose_region("20,0,40,40", SIZE)
    found = sample_spread([samples], seed=0, region=region)
    expected = samples[..., 20:].double().std(0).square().mean().sqrt().item()
    assert found.value == pytest.approx(expected, rel=1e-5)
    assert sample_spread([samples], seed=0).value < found.value
