import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from invkit.errors import ImageError
from invkit.sampling.tiles import Tiling

SIZES = [
    (16, 16),
    (16, 300),
    (300, 17),
    (127, 129),
    (128, 128),
    (129, 128),
    (200, 241),
    (256, 256),
    (300, 300),
]


def noise(height, width, n=1):
    return torch.randn(n, 1, height, width, generator=torch.Generator().manual_seed(height * 1000 + width))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([8, 16, 32, 48, 128]))
def test_an_image_of_any_size_survives_cut_and_blend(height, width, patch):
    tiling = Tiling(height, width, patch)
    image = noise(height, width)
    patches = tiling.cut(image)
    assert patches.shape == (1, len(tiling), 1, patch, patch)
    assert bool(patches.isfinite().all())
    back = tiling.blend(patches)
    assert back.shape == image.shape
    torch.testing.assert_close(back, image, rtol=0, atol=2e-6)


@pytest.mark.parametrize("size", SIZES)
def test_constant_and_linear_images_come_back(size):
    height, width = size
    tiling = Tiling(height, width, 128)
    constant = torch.full((1, 1, height, width), 1000.0)
    torch.testing.assert_close(tiling.blend(tiling.cut(constant)), constant, rtol=3e-7, atol=0)
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None]
    linear = (3.0 * rows - 2.0 * columns - 400.0)[None, None]
    torch.testing.assert_close(tiling.blend(tiling.cut(linear)), linear, rtol=0, atol=5e-4)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("patch", [16, 32, 128])
def test_weights_cover_every_pixel_and_sum_to_one(size, patch):
    """Blending the unit patches one at a time gives each patch's weights."""
    tiling = Tiling(*size, patch)
    unit = torch.eye(len(tiling))[:, :, None, None, None].expand(-1, -1, 1, patch, patch)
    weights = tiling.blend(unit) if len(tiling) > 1 else torch.ones(1, 1, *size)
    assert float(weights.min()) >= 0
    torch.testing.assert_close(weights.sum(0), torch.ones(1, *size), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("patch", [16, 32, 128])
def test_tiles_lie_inside_and_neighbours_overlap_as_promised(size, patch):
    tiling = Tiling(*size, patch)
    wanted = min(16, patch // 2)
    for axis, length in enumerate(size):
        starts = sorted({corner[axis] for corner in tiling.corners})
        assert starts[0] == 0
        assert starts[-1] == max(length, patch) - patch
        assert all(first + patch - second >= wanted for first, second in itertools.pairwise(starts))
    rows, columns = ({corner[axis] for corner in tiling.corners} for axis in (0, 1))
    assert len(tiling) == len(rows) * len(columns) == len(tiling.corners)


def test_weights_fall_off_linearly_over_the_overlap():
    tiling = Tiling(128, 240, 128, overlap=16)
    assert tiling.corners == [(0, 0), (0, 112)]
    patches = torch.stack([torch.zeros(1, 128, 128), torch.ones(1, 128, 128)])[None]
    row = tiling.blend(patches)[0, 0, 64]
    assert torch.equal(row[:112], torch.zeros(112))
    torch.testing.assert_close(row[112:128], torch.arange(1, 17) / 17.0)
    assert torch.equal(row[128:], torch.ones(112))


@pytest.mark.parametrize(("height", "width"), [(16, 16), (20, 300), (127, 100), (33, 65), (90, 128)])
def test_small_images_are_padded_by_reflection(height, width):
    image = noise(height, width, n=2)
    whole = Tiling(height, width, 128).pad(image).numpy()
    pads = [(0, 0), (0, 0), (0, max(0, 128 - height)), (0, max(0, 128 - width))]
    np.testing.assert_array_equal(whole, np.pad(image.numpy(), pads, mode="reflect"))


def test_a_line_or_a_pixel_is_repeated():
    assert torch.equal(Tiling(1, 1, 8).cut(torch.full((1, 1, 1, 1), 5.0)), torch.full((1, 1, 1, 8, 8), 5.0))
    line = torch.arange(5.0).view(1, 1, 1, 5)
    cut = Tiling(1, 5, 8).cut(line)[0, 0, 0]
    assert torch.equal(cut, torch.tensor([0.0, 1, 2, 3, 4, 3, 2, 1]).expand(8, 8))


def test_images_of_a_batch_do_not_mix():
    tiling, images = Tiling(200, 150, 128), noise(200, 150, n=3)
    patches = tiling.cut(images)
    for index in range(3):
        assert torch.equal(patches[index], tiling.cut(images[index : index + 1])[0])
        assert torch.equal(tiling.blend(patches)[index], tiling.blend(patches[index : index + 1])[0])


def test_an_overlap_of_half_a_patch_is_the_most():
    assert Tiling(40, 40, 16).corners == Tiling(40, 40, 16, overlap=8).corners
    assert Tiling(40, 40, 16, overlap=99).corners == Tiling(40, 40, 16, overlap=8).corners


def test_refuses_what_it_was_not_made_for():
    with pytest.raises(ImageError, match="nothing to analyse"):
        Tiling(0, 5, 8)
    with pytest.raises(ImageError, match="nothing to analyse"):
        Tiling(5, 0, 8)
    with pytest.raises(ImageError, match=r"images of \(20, 30\)"):
        Tiling(20, 30, 16).cut(torch.zeros(1, 1, 30, 20))


def test_independent_draws_keep_their_variance_where_tiles_overlap():
    """Averaging two independent draws would leave 0.71 of their standard deviation in the middle of an overlap."""
    tiling = Tiling(200, 150, 64)
    random = torch.Generator().manual_seed(1)
    centre = tiling.cut(100 * noise(200, 150))
    draws = centre + 10 * torch.randn(400, len(tiling), 1, 64, 64, generator=random)
    images = tiling.blend_draws(draws, centre)
    std = images.std(dim=0)
    assert abs(float(std.mean()) - 10) < 0.05
    # 10 / sqrt(2 * 400) is the standard error of one pixel's value; 30,000 pixels reach 4.5 of them.
    assert float((std - 10).abs().max()) < 1.7
    average = tiling.blend(draws).std(dim=0)
    assert float(average.min()) < 6
    torch.testing.assert_close(images.mean(dim=0, keepdim=True), 100 * noise(200, 150), atol=2.6, rtol=0)


def test_one_tile_is_left_as_it_is_drawn():
    tiling = Tiling(40, 64, 64)
    draws = torch.randn(3, 1, 1, 64, 64)
    assert torch.equal(tiling.blend_draws(draws, torch.zeros(1, 1, 1, 64, 64)), draws[:, 0, :, :40])
