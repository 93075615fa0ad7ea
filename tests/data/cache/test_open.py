"""Patches from a cache: real pairs, all allowed places and patients equally likely, nothing kept in memory."""

from collections import Counter

import numpy as np
import pytest
import torch
from ct_layouts import write_series, write_tcia

from invkit.data.cache.open import Mapped
from invkit.data.cache.split import check_same_split
from invkit.data.patches import BODY, PatchSampler
from invkit.data.prepare.prepare import prepare
from invkit.data.slices import Slice, SliceSet, join_slices, load_slices, split_meta
from invkit.errors import ArtifactError, DataError, UsageError


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Twelve patients of two types of examination, with one to four slices each."""
    folder = tmp_path_factory.mktemp("cached")
    for slices, letters in ((1, "CL"), (4, "L"), (2, "C")):
        patients = [f"{letter}{100 * slices + number}" for letter in letters for number in range(3)]
        write_tcia(folder / "tcia", patients, slices=slices)
    prepare([folder / "tcia"], folder / "cache")
    return folder / "cache"


def mapped(image, low=None, **options):
    """A slice whose pixels lie in a shard."""
    shard = np.stack([image, image if low is None else low]).astype(np.int16)[None]
    pixels = Mapped(shard, 0, 0)
    if low is not None:
        options |= {"low": Mapped(shard, 0, 1), "added": 7.0}
    return Slice("a", "cache-1", 5.0, None, pixels, **options)


def as_set(*slices):
    return SliceSet(slices, "0" * 64, "a few slices")


def test_pairs_are_cut_and_mirrored_alike(cache):
    random = np.random.default_rng(0)
    full = random.integers(-200, 200, (40, 50)).astype(np.int16)
    batch = PatchSampler(as_set(mapped(full, full + 1000)), 16).batch(0, 200)
    assert torch.equal(batch.x, batch.y + 1000)
    assert batch.clean is None
    assert set(batch.noise.tolist()) == {7.0}
    # All eight symmetries occur.
    corners = {tuple(np.sign(np.diff(patch[0, 0, :2].numpy()))) for patch in batch.y}
    assert len(corners) >= 2


def test_real_pairs_keep_their_own_dose():
    full = np.random.default_rng(0).integers(-200, 200, (40, 40)).astype(np.int16)
    slices = as_set(mapped(full, full + 50))
    one, other = (PatchSampler(slices, 16, dose=dose).batch(0, 8) for dose in (0.1, 0.5))
    assert torch.equal(one.x, other.x)
    whole = PatchSampler(slices, 16, dose=1.0).batch(0, 8)
    assert torch.equal(whole.x, whole.y)
    assert set(whole.noise.tolist()) == {0.0}


@pytest.mark.parametrize("physical", [False, True])
def test_a_real_pair_is_one_scan_alone_so_another_one_has_noise_of_its_level(physical):
    full = np.random.default_rng(0).integers(-200, 200, (64, 64)).astype(np.int16)
    slices = as_set(mapped(full, full + 50))
    sampler = PatchSampler(slices.simulated() if physical else slices, 48)
    real, first, second = (sampler.batch(0, 32, redraw=number) for number in range(3))
    assert torch.equal(real.y, first.y)
    assert torch.equal(real.x, real.y + 50)
    assert float((first.x - first.y).std()) == pytest.approx(7.0, rel=0.1)
    assert float((second.x - first.x).std()) == pytest.approx(7.0 * 2**0.5, rel=0.1)


def test_a_partner_in_memory_is_used_too():
    full = np.random.default_rng(0).normal(0, 100, (20, 40)).astype(np.float32)
    item = Slice("a", "ct-1", 5.0, None, lambda: full, low=lambda: full + 10, added=3.0)
    for size in (16, 32):
        batch = PatchSampler(as_set(item), size).batch(0, 20)
        torch.testing.assert_close(batch.x, batch.y + 10)


def test_without_a_partner_noise_is_added():
    full = np.full((64, 64), 40, dtype=np.int16)
    batch = PatchSampler(as_set(mapped(full)), 32, dose=0.25).batch(0, 50)
    assert set(batch.y.unique().tolist()) == {40.0}
    assert float((batch.x - batch.y).std()) == pytest.approx(5 * 3**0.5, rel=0.1)


def test_what_is_stored_beyond_the_range_is_clipped():
    full = np.array([[-1024, 5000], [0, 3072]], dtype=np.int16).repeat(8, 0).repeat(8, 1)
    batch = PatchSampler(as_set(mapped(full, full + 100)), 16, augment=False, minimum_body=0).batch(0, 1)
    assert (float(batch.y.max()), float(batch.x.max())) == (3071.0, 3071.0)
    assert float(mapped(full).image.max()) == 3071.0


@pytest.mark.parametrize("body", [1.0, 0.05])
def test_all_allowed_places_are_equally_likely(body):
    """Whether a place is found by trying (most have body) or by looking at the whole slice (few have)."""
    side = 9 if body == 1.0 else 40
    pixels = np.full((side, side), -1000, dtype=np.int16)
    pixels[:6, :9] = np.arange(54).reshape(6, 9)
    sampler = PatchSampler(as_set(mapped(pixels)), 4, minimum_body=1.0, augment=False)
    batch = sampler.batch(0, 1800)
    counts = Counter(batch.y[:, 0, 0, 0].tolist())
    assert set(counts) == {9.0 * row + column for row in range(3) for column in range(6)}
    statistic = sum((count - 100) ** 2 / 100 for count in counts.values())
    assert statistic < 40.8  # chi-squared with 17 degrees of freedom, 0.1 %


def test_patches_hold_enough_body(cache):
    batch = PatchSampler(load_slices(cache), 32, minimum_body=0.6).batch(0, 200)
    assert float((batch.y > BODY).float().mean(dim=(1, 2, 3)).min()) >= 0.6


def test_every_patient_is_equally_likely(cache):
    slices = load_slices(cache)
    sampler = PatchSampler(slices, 16, minimum_body=0)
    assert len({item.patient for item in slices.slices}) == 12
    counts = Counter(sampler.batch(3, 6000).patient.tolist())
    assert len(counts) == 12
    assert (
        sum((count - 500) ** 2 / 500 for count in counts.values()) < 31.3
    )  # chi-squared with 11 degrees of freedom, 0.1 %


def test_no_patient_is_in_two_parts(cache):
    slices = load_slices(cache)
    parts = {
        name: {item.patient for item in slices.part(name).slices} for name in ("train", "validation", "test")
    }
    assert sum(map(len, parts.values())) == 12 == len(set.union(*parts.values()))
    assert all(item.part == name for name in parts for item in slices.part(name).slices)


def test_batches_are_functions_of_seed_and_step(cache):
    first, second = (PatchSampler(load_slices(cache), 24, seed=3) for _ in range(2))
    second.batch(1, 5)
    a, b = first.batch(5, 12), second.batch(5, 12)
    assert torch.equal(a.x, b.x)
    assert torch.equal(a.y, b.y)
    part = second.batch(5, 12, slice(3, 9))
    assert torch.equal(part.x, a.x[3:9])


def test_nothing_that_lies_on_disk_is_kept(cache):
    slices = load_slices(cache)
    sampler = PatchSampler(slices, 24, minimum_body=1.0)
    sampler.batch(0, 100)
    assert sampler._ready == {}
    for item in slices.slices:
        assert item.image.shape == item.low_image.shape == (64, 64)
        assert "_kept" not in vars(item)
        assert isinstance(item.pixels.shard, np.memmap)


def test_small_slices_are_padded(cache):
    batch = PatchSampler(load_slices(cache), 80, minimum_body=0).batch(0, 4)
    assert batch.x.shape == (4, 1, 80, 80)


def test_caches_phantoms_and_folders_combine(cache, tmp_path):
    write_series(tmp_path / "own", 3)
    both = load_slices([cache, "phantoms:10", tmp_path / "own"])
    assert len({item.source for item in both.slices}) == 3
    assert both.fingerprint == load_slices([tmp_path / "own", cache, "phantoms:10"]).fingerprint
    assert both.split not in (load_slices(cache).split, load_slices(["phantoms:10"]).split)
    assert both.part("train").split == both.split
    with pytest.raises(UsageError, match="given twice"):
        load_slices([cache, cache])


def test_a_patient_in_two_parts_of_two_caches_is_refused(cache, tmp_path):
    patient = load_slices(cache).part("test").slices[0].patient
    write_tcia(tmp_path / "tcia", [patient], slices=1)
    prepare([tmp_path / "tcia"], tmp_path / "cache")
    with pytest.raises(DataError, match="is in two parts"):
        load_slices([cache, tmp_path / "cache"])
    with pytest.raises(DataError, match="is in two parts"):
        join_slices([load_slices(cache), load_slices(tmp_path / "cache")])


@pytest.mark.parametrize("names", [("full_3mm", "quarter_3mm"), ("Full Dose Images", "Low Dose Images")])
def test_two_doses_in_one_folder_are_not_taken_for_full_dose(tmp_path, names):
    for name in names:
        write_series(tmp_path / "a" / name, 0)
    with pytest.raises(DataError, match="invkit data prepare"):
        load_slices([tmp_path / "a"])
    assert len(load_slices([tmp_path / "a" / names[0]]).slices) == 3


def test_the_split_hash_tells_who_is_in_which_part():
    def of(*entries):
        slices = [
            Slice(name, source, 1.0, None, lambda: None, exam=exam, part=part)
            for source, exam, name, part in entries
        ]
        return as_set(*slices).split

    base = [("ldct", "L", "L001", "train"), ("ldct", "L", "L002", "test")]
    assert of(*base) == of(*base[::-1]) == of(*base, base[0])
    others = [
        of(("ldct", "L", "L001", "test"), ("ldct", "L", "L002", "train")),
        of(("ldct", "C", "L001", "train"), ("ldct", "L", "L002", "test")),
        of(("cache-1", "L", "L001", "train"), ("cache-1", "L", "L002", "test")),
        of(*base, ("ldct", "L", "L003", "train")),
    ]
    assert len({of(*base), *others}) == 5


def test_phantoms_have_one_split_whatever_their_seed_and_size():
    slices = load_slices(["phantoms:20"])
    assert slices.split == load_slices(["phantoms:20"], seed=4, size=64).split
    assert slices.part("test").split == slices.split != load_slices(["phantoms:21"]).split


def test_files_of_different_splits_do_not_mix(cache, tmp_path):
    write_series(tmp_path / "own", 3)
    meta = {
        "cache": split_meta(load_slices(cache)),
        "phantoms": split_meta(load_slices(["phantoms:10"])),
        "more": split_meta(load_slices(["phantoms:12"])),
        "own": split_meta(load_slices([tmp_path / "own"])),
        "both": split_meta(load_slices([cache, "phantoms:10"])),
        "stranger": {},
    }
    check_same_split({})
    check_same_split(dict.fromkeys(("vae", "cinn", "denoiser"), meta["cache"]))
    # What two share is split alike; what shares nothing cannot be judged.
    check_same_split({name: meta[name] for name in ("cache", "phantoms", "both", "own", "stranger")})
    for one, other in (("phantoms", "more"), ("more", "both")):
        with pytest.raises(ArtifactError, match="different splits") as caught:
            check_same_split({"vae.safetensors": meta[one], "cinn.safetensors": meta[other], "x": {}})
        text = str(caught.value)
        for name, of in (("vae.safetensors", one), ("cinn.safetensors", other)):
            assert any(f"{name} ({hashed[:12]})" in text for hashed in meta[of]["splits"].values())
        assert "x (" not in text
