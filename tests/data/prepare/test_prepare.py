"""A cache: what it holds, that nothing is lost, that changes and damage are noticed."""

import json
import os

import numpy as np
import pytest
from canaries import assert_silent, marked
from ct_cache import contents, index_of
from ct_files import content, enhanced_ct
from ct_layouts import PATIENTS, pair, patient_number, slice_file, write_challenge, write_series, write_tcia
from pydicom import dcmread

from invkit.data.patches import PatchSampler
from invkit.data.prepare.prepare import prepare
from invkit.data.slices import load_slices
from invkit.errors import DataError, UsageError


def test_a_cache_holds_what_the_files_hold(tcia, tmp_path):
    done = prepare([tcia], tmp_path / "cache")
    assert (done.patients, done.slices, done.pairs, done.written, done.kept) == (6, 12, 12, 6, 0)
    assert done.parts == {"train": 4, "validation": 1, "test": 1}
    slices = load_slices(tmp_path / "cache")
    assert {item.source for item in slices.slices} == {"ldct"}
    for item in slices.slices:
        number = patient_number(item.patient)
        wanted = [pair(number, index) for index in range(2)]
        found = next(two for two in wanted if np.array_equal(two[0], item.image))
        np.testing.assert_array_equal(item.low_image, found[1])
        assert item.image.dtype == np.float32
        assert item.clean is None
        assert item.exam == "L"
        assert item.spacing == (0.8, 0.8)
        assert 8 < item.added < 20
    assert {record["dtype"] for record in index_of(tmp_path / "cache")["shards"]} == {"int16"}
    json.dumps(done.describe())


def test_hu_that_are_not_whole_are_kept_as_floats(tmp_path):
    write_series(tmp_path / "a", 0, RescaleSlope="0.5", RescaleIntercept="-512.25")
    prepare([tmp_path / "a"], tmp_path / "cache")
    assert {record["dtype"] for record in index_of(tmp_path / "cache")["shards"]} == {"float32"}
    images = [item.image for item in load_slices(tmp_path / "cache").slices]
    for index, image in enumerate(images):
        np.testing.assert_array_equal(image, np.maximum((pair(0, index)[0] + 1024) * 0.5 - 512.25, -1024))


def test_every_layout_goes_into_one_cache(tmp_path):
    write_tcia(tmp_path / "tcia", PATIENTS[:2], slices=2)
    write_challenge(tmp_path / "challenge", ["L010"], slices=2)
    write_series(tmp_path / "full", 1, slices=2)
    write_series(tmp_path / "low", 1, slices=2, low=True, uid="1.2.6")
    write_series(tmp_path / "alone", 2, slices=2, uid="1.2.7", patient="Roe^R")
    (tmp_path / "arrays").mkdir()
    np.save(tmp_path / "arrays" / "doe_full.npy", pair(3, 0)[0])
    np.save(tmp_path / "arrays" / "doe_low.npy", pair(3, 0)[1])
    both = f"{tmp_path / 'full'},{tmp_path / 'low'}"
    done = prepare(
        [tmp_path / "tcia", tmp_path / "challenge", both, tmp_path / "alone", tmp_path / "arrays"],
        tmp_path / "cache",
    )
    assert (done.patients, done.slices, done.pairs) == (6, 11, 9)
    assert done.source.startswith("cache-")
    slices = load_slices(tmp_path / "cache").slices
    assert sum(item.low is None for item in slices) == 2
    assert sum(item.patient.startswith("patient-") for item in slices) == 5


def test_prepare_again_does_nothing(cache, tcia):
    before = contents(cache)
    done = prepare([tcia], cache)
    assert (done.written, done.kept, done.removed) == (0, 6, 0)
    assert contents(cache) == before


def test_a_changed_source_is_noticed(cache, tcia):
    before, fingerprint = contents(cache), load_slices(cache).fingerprint
    file = next(tcia.rglob("L003/*/*Full Dose Images*/1-001.dcm"))
    # Only its time has changed: its content decides.
    os.utime(file, ns=(1, 1))
    done = prepare([tcia], cache)
    assert (done.written, done.kept) == (0, 6)
    assert load_slices(cache).fingerprint == fingerprint
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    done = prepare([tcia], cache)
    assert (done.written, done.kept) == (1, 5)
    assert load_slices(cache).fingerprint != fingerprint
    changed = [name for name in before if before[name] != contents(cache)[name]]
    assert len([name for name in changed if name.endswith(".npy")]) == 1
    assert "split.json" not in changed


def test_a_damaged_shard_is_refused_and_mended(cache, tcia):
    whole = contents(cache)
    shard = next((cache / "shards").iterdir())
    for position in (0, 70, -1):
        data = bytearray(shard.read_bytes())
        data[position] ^= 4
        shard.write_bytes(data)
        with pytest.raises(DataError, match="sha256"):
            load_slices(cache)
        assert prepare([tcia], cache).written == 1
        assert contents(cache) == whole
    shard.unlink()
    with pytest.raises(DataError, match="is missing"):
        load_slices(cache)


def test_a_changed_index_or_split_is_refused(cache, tcia):
    whole = contents(cache)
    index = (cache / "index.json").read_text()
    (cache / "index.json").write_text(index.replace('"L003"', '"L099"'))
    with pytest.raises(DataError, match="was changed"):
        load_slices(cache)
    (cache / "index.json").write_text(index)
    split = json.loads((cache / "split.json").read_text())
    moved = split["parts"]["test"]["L"].pop()
    (cache / "split.json").write_text(json.dumps(split))
    with pytest.raises(DataError, match="differ in 1 patients"):
        load_slices(cache)
    split["parts"]["train"]["L"].append(moved)
    (cache / "split.json").write_text(json.dumps(split))
    with pytest.raises(DataError, match="if you want the new sets"):
        load_slices(cache)
    # Preparing again takes the user's parts.
    assert prepare([tcia], cache).parts == {"train": 5, "validation": 1, "test": 0}
    split["parts"]["test"]["L"] = [moved]
    (cache / "split.json").write_text(json.dumps(split))
    with pytest.raises(DataError, match="is in two parts"):
        load_slices(cache)
    for damage in ("", "[]", '{"schema": "invkit.split/2"}', "{" * 5000):
        (cache / "split.json").write_text(damage)
        with pytest.raises(DataError):
            load_slices(cache)
    (cache / "split.json").write_bytes(whole["split.json"])
    assert len(load_slices(cache).slices) == 12


def test_no_patient_attribute_is_in_a_cache(tmp_path):
    data = marked()
    data.PixelData = (pair(0, 0)[0].astype(np.int16) + np.int16(1024)).tobytes()
    data.Rows = data.Columns = 64
    data.PixelSpacing = ["0.8", "0.8"]
    (tmp_path / "CANARY-folder").mkdir()
    (tmp_path / "CANARY-folder" / "CANARY.dcm").write_bytes(content(data))
    done = prepare([tmp_path / "CANARY-folder"], tmp_path / "cache")
    assert done.slices == 1
    assert_silent(json.dumps(done.describe()))
    for name, held in contents(tmp_path / "cache").items():
        assert_silent(name)
        assert_silent(held.decode("latin-1"))


def test_without_its_salt_a_cache_can_be_used_but_not_prepared(cache, tcia):
    (cache / "salt").unlink()
    assert len(load_slices(cache).slices) == 12
    with pytest.raises(DataError, match="patients in the cache cannot be recognised"):
        prepare([tcia], cache)
    (cache / "salt").write_text("cd" * 32)
    with pytest.raises(DataError, match="not the salt"):
        prepare([tcia], cache)
    (cache / "salt").write_text("what")
    with pytest.raises(DataError, match="damaged"):
        prepare([tcia], cache)


def test_a_folder_of_something_else_is_left_alone(tcia, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(DataError, match="neither empty nor a cache"):
        prepare([tcia], tmp_path / "mine")
    with pytest.raises(DataError, match="is a cache already"):
        prepare([prepare([tcia], tmp_path / "cache").folder], tmp_path / "other")
    with pytest.raises(UsageError, match="worker"):
        prepare([tcia], tmp_path / "cache", workers=0)


def test_a_cache_inside_of_its_source_is_not_its_own_source(tmp_path):
    write_series(tmp_path, 0)
    first = prepare([tmp_path], tmp_path / "cache")
    again = prepare([tmp_path], tmp_path / "cache")
    assert again.slices == first.slices == 3
    assert again.skipped == {"is a cache that invkit prepared": 1}


def test_slices_that_fail_are_left_out_with_their_reason(tmp_path):
    write_tcia(tmp_path / "tcia", PATIENTS[:2], slices=3)
    # Their headers are fine, their pixels are not.
    folder = next((tmp_path / "tcia").rglob("L001/*/*Full*"))
    wild = np.full((64, 64), 31000, np.int16)
    target = folder / "1-002.dcm"
    series = dcmread(target).SeriesInstanceUID
    file = slice_file(wild, index=1, uid=series, sop="1.2", RescaleSlope="9", PatientID="L001")
    target.write_bytes(file)
    other = folder / "1-003.dcm"
    other.write_bytes(slice_file(pair(5, 2)[0][::-1, ::-1], index=2, uid=series, sop="1.3", PatientID="L001"))
    done = prepare([tmp_path / "tcia"], tmp_path / "cache")
    assert done.slices == 4
    assert any("values outside" in reason for reason in done.skipped)
    assert any("the same anatomy as its partner" in reason for reason in done.skipped)
    assert prepare([tmp_path / "tcia"], tmp_path / "cache").kept == 2


def test_frames_of_one_file_stay_together(tmp_path, monkeypatch):
    monkeypatch.setattr("invkit.data.prepare.prepare.SLICES", 2)
    pixels = np.stack([pair(0, index)[0] + 1024 for index in range(5)]).astype(np.int16)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a.dcm").write_bytes(content(enhanced_ct(pixels, range(5), [(1, -1024)])))
    np.save(tmp_path / "a" / "b.npy", pixels - np.int16(1024))
    write_series(tmp_path / "a" / "c", 1, slices=5)
    done = prepare([tmp_path / "a"], tmp_path / "cache")
    counts = sorted(record["shape"][0] for record in index_of(tmp_path / "cache")["shards"])
    assert counts == [1, 1, 2, 2, 2, 2, 5]
    assert done.slices == 15


def test_from_files_to_patches(tcia, tmp_path):
    """Issue 3, item 10: what was simulated and written as DICOM arrives at a training, pair by pair."""
    prepare([tcia], tmp_path / "cache")
    slices = load_slices([tmp_path / "cache"])
    originals = {
        image.tobytes(): low
        for patient in PATIENTS
        for index in range(2)
        for image, low in [pair(patient_number(patient), index)]
    }
    for part in ("train", "validation", "test"):
        batch = PatchSampler(slices.part(part), 64, minimum_body=0, augment=False).batch(0, 20)
        for x, y in zip(batch.x, batch.y, strict=True):
            np.testing.assert_array_equal(x[0], originals[y[0].numpy().astype(np.int16).tobytes()])
