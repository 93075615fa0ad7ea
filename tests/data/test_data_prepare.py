"""A cache: what it holds, that nothing is lost or left half done, that changes are noticed, that nobody moves."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from ct_files import content, enhanced_ct
from ct_layouts import PATIENTS, pair, patient_number, slice_file, write_challenge, write_series, write_tcia
from pydicom import dcmread
from test_dicom_privacy import assert_silent, marked

from invkit.data import prepare_pool
from invkit.data.cache_split import read_split
from invkit.data.partition import LDCT_TEST
from invkit.data.patches import PatchSampler
from invkit.data.prepare import prepare
from invkit.data.slices import load_slices
from invkit.errors import DataError, ResourceError, UsageError

SALT = "ab" * 32


def salted(folder):
    """A folder whose cache will have the same pseudonyms every time."""
    folder.mkdir()
    (folder / "salt").write_text(SALT)
    return folder


def contents(folder):
    """Every file of a cache and its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def index_of(folder):
    return json.loads((folder / "index.json").read_text())


@pytest.fixture
def tcia(tmp_path):
    return write_tcia(tmp_path / "tcia", slices=2)


@pytest.fixture
def cache(tcia, tmp_path):
    prepare([tcia], tmp_path / "cache")
    return tmp_path / "cache"


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


def test_what_is_gone_is_removed_and_comes_back_to_its_part(cache, tcia, tmp_path):
    before = dict(read_split(cache)[0].parts)
    (gone,) = (tcia / "LDCT-and-Projection-data").glob("L003")
    shutil.move(gone, tmp_path / "elsewhere")
    done = prepare([tcia], cache)
    assert (done.patients, done.removed, done.kept) == (5, 1, 5)
    assert len(list((cache / "shards").iterdir())) == 5
    assert read_split(cache)[0].former == {"L003": before["L003"]}
    shutil.move(tmp_path / "elsewhere", gone)
    prepare([tcia], cache)
    assert read_split(cache)[0].parts == before
    assert read_split(cache)[0].former == {}


def test_nobody_moves_when_others_are_added(tmp_path):
    write_tcia(tmp_path / "a", [f"L{number:03d}" for number in range(1, 5)], slices=1, size=32)
    prepare([tmp_path / "a"], tmp_path / "cache")
    before = dict(read_split(tmp_path / "cache")[0].parts)
    write_tcia(tmp_path / "b", [f"L{number:03d}" for number in range(5, 14)], slices=1, size=32)
    done = prepare([tmp_path / "b"], tmp_path / "cache")
    after = read_split(tmp_path / "cache")[0].parts
    assert len(after) == 13
    assert before.items() <= after.items()
    # What was prepared before stays, though it was not named again.
    assert (done.kept, done.written, done.removed) == (0, 9, 0)
    assert {
        part: abs(count - share * 13) <= 1
        for (part, count), share in zip(done.parts.items(), (0.7, 0.2, 0.1), strict=True)
    } == dict.fromkeys(done.parts, True)
    assert load_slices(tmp_path / "cache").split == done.split


def test_the_split_of_the_ldct_benchmark(tmp_path):
    patients = [*sorted(LDCT_TEST)[:2], *(f"C{number:03d}" for number in range(1, 10))]
    write_tcia(tmp_path / "tcia", patients, slices=1, size=32)
    done = prepare([tmp_path / "tcia"], tmp_path / "cache", split="ldct-benchmark")
    assert done.parts == {"train": 7, "validation": 2, "test": 2}
    slices = load_slices(tmp_path / "cache")
    assert {item.patient for item in slices.part("test").slices} == set(patients[:2])
    assert prepare([tmp_path / "tcia"], tmp_path / "cache").rule == "ldct-benchmark"
    with pytest.raises(UsageError, match="stay in their parts"):
        prepare([tmp_path / "tcia"], tmp_path / "cache", split="hash-rank")
    with pytest.raises(UsageError, match="splits are hash-rank, ldct-benchmark"):
        prepare([tmp_path / "tcia"], tmp_path / "other", split="alphabet")


def test_exam_types_are_split_each_on_its_own(tmp_path):
    for letter in "CLN":
        write_tcia(tmp_path / "tcia", [f"{letter}{number:03d}" for number in range(10)], slices=1, size=32)
    prepare([tmp_path / "tcia"], tmp_path / "cache")
    listed = json.loads((tmp_path / "cache" / "split.json").read_text())["parts"]
    counts = {part: {exam: len(names) for exam, names in exams.items()} for part, exams in listed.items()}
    assert counts == {
        "train": {"C": 7, "L": 7, "N": 7},
        "validation": {"C": 2, "L": 2, "N": 2},
        "test": {"C": 1, "L": 1, "N": 1},
    }


def test_public_patients_have_one_split_hash_wherever_they_are_prepared(tcia, tmp_path):
    one, other = (prepare([tcia], tmp_path / name) for name in ("a", "b"))
    assert one.split == other.split == load_slices(tmp_path / "a").split
    assert load_slices(tmp_path / "a").fingerprint == load_slices(tmp_path / "b").fingerprint
    assert (tmp_path / "a" / "salt").read_text() != (tmp_path / "b" / "salt").read_text()
    assert (tmp_path / "a" / "salt").stat().st_mode & 0o777 == 0o600


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
    with pytest.raises(DataError, match="if the new parts are wanted"):
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


def test_an_unfinished_cache_is_refused(cache):
    index = index_of(cache)
    from invkit.data.cache_files import read_index, write_index

    write_index(cache, read_index(cache).model_copy(update={"complete": False}))
    with pytest.raises(DataError, match="did not come to its end"):
        load_slices(cache)
    assert index["complete"]


@pytest.mark.parametrize("call", ["fsync", "replace", "unlink"])
def test_killed_at_any_write_it_goes_on_to_the_same_cache(tmp_path, call):
    source = write_tcia(tmp_path / "tcia", PATIENTS[:3], slices=1, size=32)
    prepare([source], salted(tmp_path / "whole"))
    # What a later, larger preparation is killed in: one patient more, one file changed.
    start = tmp_path / "start"
    shutil.copytree(tmp_path / "whole", start)
    write_tcia(source, ["L004"], slices=1, size=32)
    file = next(source.rglob("L001/*/*Low*/*.dcm"))
    file.write_bytes(file.read_bytes()[:-1] + b"\1")
    shutil.rmtree(source / "LDCT-and-Projection-data" / "L002")
    wanted = tmp_path / "wanted"
    shutil.copytree(start, wanted)
    prepare([source], wanted)
    fingerprint, kills = load_slices(wanted).fingerprint, 0
    for number in range(1000):
        folder = tmp_path / "cache"
        shutil.copytree(start, folder)
        if _runs_to_its_end(lambda folder=folder: prepare([source], folder), call, number):
            break
        kills += 1
        # The cache as it was, as it shall be, or refused: nothing between.
        with contextlib.suppress(DataError):
            assert load_slices(folder).fingerprint in (fingerprint, load_slices(start).fingerprint)
        prepare([source], folder)
        assert contents(folder) == contents(wanted), (call, number)
        shutil.rmtree(folder)
    assert kills >= {"fsync": 12, "replace": 5, "unlink": 2}[call]


def _runs_to_its_end(work, call, number):
    """Fork, kill the child with SIGKILL at its `number`-th call of a function of `os`; return whether it lived."""
    child = os.fork()
    if child == 0:
        real, left = getattr(os, call), [number]

        def counted(*args, **options):
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return real(*args, **options)

        setattr(os, call, counted)
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert not os.WIFEXITED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFEXITED(status)


def test_processes_make_the_same_cache(tcia, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_pool, "START", "fork")
    one, other = salted(tmp_path / "one"), salted(tmp_path / "other")
    steps = []
    prepare([tcia], one)
    prepare([tcia], other, workers=3, progress=lambda event: steps.append((event.step, event.steps)))
    assert contents(one) == contents(other)
    assert steps == [(number, 6) for number in range(1, 7)]


def test_a_killed_worker_is_named_and_what_is_done_is_kept(tcia, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_pool, "START", "fork")
    folder, real = salted(tmp_path / "cache"), prepare_pool.make_shard
    monkeypatch.setattr(prepare_pool, "make_shard", deadly)
    monkeypatch.setattr(sys.modules[__name__], "REAL", real, raising=False)
    with pytest.raises(ResourceError, match="--workers"):
        prepare([tcia], folder, workers=2)
    monkeypatch.setattr(prepare_pool, "make_shard", real)
    assert prepare([tcia], folder).slices == 12


def deadly(block, folder, old):
    if block.patient == "L006":
        os.kill(os.getpid(), signal.SIGKILL)
    return REAL(block, folder, old)  # noqa: F821 - set by the test


@pytest.mark.slow
def test_workers_end_with_a_killed_preparation(tmp_path):
    source = write_tcia(tmp_path / "tcia", [f"L{number:03d}" for number in range(40)], slices=2)
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            from invkit.data.prepare import prepare

            if __name__ == "__main__":
                prepare([{str(source)!r}], {str(tmp_path / "cache")!r}, workers=2,
                        progress=lambda event: print(event.step, flush=True))
            """
        )
    )
    words = [sys.executable, script]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True) as run:
        assert run.stdout.readline().strip() == "1"
        run.kill()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.killpg(run.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("workers outlived their parent")
    assert prepare([source], tmp_path / "cache", workers=2).slices == 80


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
    with pytest.raises(DataError, match="nobody in the cache can be recognised"):
        prepare([tcia], cache)
    (cache / "salt").write_text("cd" * 32)
    with pytest.raises(DataError, match="not the one"):
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
    assert any("something else than its partner" in reason for reason in done.skipped)
    assert prepare([tmp_path / "tcia"], tmp_path / "cache").kept == 2


def test_frames_of_one_file_stay_together(tmp_path, monkeypatch):
    monkeypatch.setattr("invkit.data.prepare.SLICES", 2)
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
