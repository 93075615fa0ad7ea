import functools
from collections import Counter

import numpy as np
import pytest
import torch

from invkit.data.patches import BODY, PatchSampler
from invkit.data.slices import Slice, SliceSet, load_slices
from invkit.errors import DataError, UsageError


@functools.cache
def phantoms() -> SliceSet:
    return load_slices(["phantoms:6"], size=128)


def flat(patient: str, source: str, value: float, side: int = 24, noise: float = 5.0) -> Slice:
    return Slice(patient, source, noise, None, lambda: np.full((side, side), value, dtype=np.float32))


def as_set(*slices: Slice) -> SliceSet:
    return SliceSet(slices, "0" * 64, "a few slices")


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    first, second = (PatchSampler(phantoms(), 48, seed=3) for _ in range(2))
    second.batch(9, 4)
    a, b = first.batch(5, 6), second.batch(5, 6)
    assert a.x.shape == a.y.shape == a.clean.shape == (6, 1, 48, 48)
    assert torch.equal(a.x, b.x)
    assert torch.equal(a.y, b.y)
    assert not torch.equal(a.x, first.batch(6, 6).x)
    assert not torch.equal(a.x, PatchSampler(phantoms(), 48, seed=4).batch(5, 6).x)


def test_shards_are_slices_of_the_whole_batch() -> None:
    sampler = PatchSampler(phantoms(), 33)
    whole = sampler.batch(2, 8)
    for part in (slice(0, 3), slice(3, 8), slice(1, 8, 2)):
        shard = sampler.batch(2, 8, part)
        assert torch.equal(shard.x, whole.x[part])
        assert torch.equal(shard.y, whole.y[part])
        assert torch.equal(shard.clean, whole.clean[part])


def test_noise_of_y_and_x_has_the_stated_variance_and_is_independent() -> None:
    item = Slice("a", "phantoms", 10.0, None, lambda: np.full((128, 128), 40, dtype=np.float32), noise_seed=1)
    for dose in (0.1, 0.25, 0.5):
        batch = PatchSampler(as_set(item), 64, dose=dose).batch(0, 100)
        own, added = batch.y - batch.clean, batch.x - batch.y
        assert float(own.var()) == pytest.approx(100, rel=0.05)
        assert float(added.var()) == pytest.approx(100 * (1 / dose - 1), rel=0.05)
        assert abs(float((own * added).mean() / (own.std() * added.std()))) < 0.02
    same = PatchSampler(as_set(item), 64, dose=1.0).batch(0, 4)
    assert torch.equal(same.x, same.y)


def test_noise_does_not_repeat() -> None:
    item = Slice("a", "phantoms", 10.0, None, lambda: np.zeros((40, 40), dtype=np.float32), noise_seed=1)
    batch = PatchSampler(as_set(item), 32).batch(0, 300)
    fields = torch.cat([batch.y, batch.x - batch.y]).flatten(1)
    correlation = torch.corrcoef(fields)
    correlation.fill_diagonal_(0)
    assert float(correlation.abs().max()) < 0.5


def test_ct_slices_keep_their_own_noise() -> None:
    pixels = np.random.default_rng(0).normal(40, 5, size=(40, 40)).astype(np.float32)
    item = Slice("a", "ct-1", 5.0, None, lambda: pixels)
    batch = PatchSampler(as_set(item), 40, augment=False).batch(0, 3)
    assert batch.clean is None
    assert torch.equal(batch.y[1, 0], torch.from_numpy(pixels))


def test_patches_hold_enough_body() -> None:
    batch = PatchSampler(phantoms(), 64, minimum_body=0.6).batch(0, 100)
    assert float((batch.clean > BODY).float().mean(dim=(1, 2, 3)).min()) >= 0.6
    empty = PatchSampler(as_set(flat("a", "ct-1", -1000)), 16, minimum_body=0.5).batch(0, 2)
    assert float(empty.y.max()) == -1000


def test_all_allowed_places_are_equally_likely() -> None:
    pixels = np.full((10, 10), -1000, dtype=np.float32)
    pixels[:6, :] = np.arange(60, dtype=np.float32).reshape(6, 10)
    item = Slice("a", "ct-1", 5.0, None, lambda: pixels)
    batch = PatchSampler(as_set(item), 4, minimum_body=1.0, augment=False).batch(0, 4200)
    counts = Counter(batch.y[:, 0, 0, 0].tolist())
    assert set(counts) == {10.0 * row + column for row in range(3) for column in range(7)}
    assert max(abs(count - 200) for count in counts.values()) < 4.5 * 200**0.5


def test_sources_patients_and_slices_are_equally_likely() -> None:
    slices = [
        flat("many", "one", 1.0),
        flat("many", "one", 2.0),
        flat("many", "one", 3.0),
        flat("single", "one", 4.0),
    ]
    slices += [flat(f"p{number}", "two", 5.0 + number) for number in range(4)]
    batch = PatchSampler(as_set(*slices), 16).batch(0, 4800)
    counts = Counter(batch.y[:, 0, 0, 0].tolist())
    wanted = {1.0: 400, 2.0: 400, 3.0: 400, 4.0: 1200, 5.0: 600, 6.0: 600, 7.0: 600, 8.0: 600}
    statistic = sum((counts[value] - expected) ** 2 / expected for value, expected in wanted.items())
    assert statistic < 24.3  # chi-squared with 7 degrees of freedom, 0.1 %


def test_a_batch_tells_the_added_noise_and_the_patient() -> None:
    slices = [
        flat("b", "one", 0.0, noise=4.0),
        flat("a", "two", 1.0, noise=6.0),
        flat("a", "one", 2.0, noise=8.0),
    ]
    batch = PatchSampler(as_set(*slices), 16, dose=0.5).batch(0, 60)
    truth = {0.0: (4.0, 1), 1.0: (6.0, 2), 2.0: (8.0, 0)}
    for value, noise, patient in zip(batch.y[:, 0, 0, 0], batch.noise, batch.patient, strict=True):
        assert (float(noise), int(patient)) == truth[float(value)]
    part = PatchSampler(as_set(*slices), 16, dose=0.5).batch(0, 60, slice(10, 20))
    assert torch.equal(part.patient, batch.patient[10:20])


def test_augmentation_gives_all_eight_symmetries() -> None:
    pixels = np.arange(16, dtype=np.float32).reshape(4, 4)
    item = Slice("a", "ct-1", 5.0, None, lambda: pixels)
    batch = PatchSampler(as_set(item), 4).batch(0, 800)
    counts = Counter(tuple(patch.flatten().tolist()) for patch in batch.y)
    assert len(counts) == 8
    assert min(counts.values()) > 60


def test_small_slices_are_padded_by_reflection() -> None:
    pixels = np.arange(12 * 20, dtype=np.float32).reshape(12, 20)
    item = Slice("a", "ct-1", 5.0, None, lambda: pixels)
    batch = PatchSampler(as_set(item), 30, augment=False).batch(0, 1)
    np.testing.assert_array_equal(batch.y[0, 0].numpy(), np.pad(pixels, ((9, 9), (5, 5)), mode="symmetric"))


def test_values_stay_in_the_range_of_ct() -> None:
    item = Slice(
        "a", "phantoms", 500.0, None, lambda: np.full((40, 40), -1000, dtype=np.float32), noise_seed=1
    )
    batch = PatchSampler(as_set(item), 32).batch(0, 4)
    assert float(batch.x.min()) == float(batch.y.min()) == -1024


def test_unusable_arguments_are_refused() -> None:
    with pytest.raises(DataError, match="more patients"):
        PatchSampler(as_set(), 16)
    with pytest.raises(UsageError, match="quarter"):
        PatchSampler(phantoms(), 16, dose=0)
    with pytest.raises(UsageError, match="side"):
        PatchSampler(phantoms(), 0)
    with pytest.raises(UsageError, match="minimum_body"):
        PatchSampler(phantoms(), 16, minimum_body=2)
