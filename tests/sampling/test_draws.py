import itertools

import pytest
import torch

from invkit.sampling.draws import CHUNK, chunks, invariances
from invkit.training.seeds import generator


def test_a_row_is_drawn_by_its_own_counter():
    v = invariances(3, 1, 2, [4, 0], 8)
    assert v.shape == (2, 8)
    assert v.dtype == torch.float32
    for row, sample in zip(v, (4, 0), strict=True):
        assert torch.equal(row, torch.randn(8, generator=generator(3, "v", 1, 2, sample)))


def test_v_depends_on_nothing_else():
    wanted = invariances(0, 0, 0, range(30), 16)
    torch.manual_seed(99)
    assert torch.equal(invariances(0, 0, 0, range(250), 16)[:30], wanted)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    assert torch.equal(invariances(0, 0, 0, order.tolist(), 16), wanted[order])
    parts = [invariances(0, 0, 0, range(start, start + 10), 16) for start in (20, 0, 10)]
    assert torch.equal(torch.cat([parts[1], parts[2], parts[0]]), wanted)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(invariances(0, 0, 0, range(30), 16), wanted)
    finally:
        torch.set_default_dtype(torch.float32)


def test_drawing_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    invariances(0, 0, 0, range(5), 4)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_every_seed_image_tile_and_sample_has_its_own_numbers():
    places = list(itertools.product((0, 1, 12), (0, 1, 2), (0, 1, 2)))
    rows = torch.cat([invariances(seed, image, tile, range(3), 4) for seed, image, tile in places])
    assert len({tuple(row) for row in rows.tolist()}) == 3 * len(places)


def test_v_is_standard_normal_and_uncorrelated():
    v = invariances(5, 0, 0, range(2000), 8).double()
    # Standard errors: 1 / sqrt(16000) of the mean, sqrt(2 / 16000) of the variance; four of them are allowed.
    assert abs(v.mean().item()) < 0.032
    assert v.var().item() == pytest.approx(1, abs=0.045)
    correlation = torch.corrcoef(v.T) - torch.eye(8)
    assert correlation.abs().max().item() < 4 / 2000**0.5
    neighbours = (v[1:] * v[:-1]).mean()
    assert abs(neighbours.item()) < 0.032


def test_no_samples_are_an_empty_matrix():
    assert invariances(0, 0, 0, [], 7).shape == (0, 7)


@pytest.mark.parametrize("samples", [1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 30, 250])
def test_chunks_have_fixed_borders_and_cover_each_sample_once(samples):
    found = list(chunks(samples))
    assert all(indices.start % CHUNK == 0 and len(indices) == CHUNK for indices, _ in found)
    covered = [index for indices, wanted in found for index in indices[:wanted]]
    assert covered == list(range(samples))
    assert [indices for indices, _ in found] == [indices for indices, _ in chunks(250)][: len(found)]


def test_no_samples_are_no_chunks():
    assert list(chunks(0)) == []
