"""Which part of a cache a patient belongs to: in proportion, by the rule asked for, and the same ever after."""

import json
import shutil

import pytest
from ct_layouts import write_tcia

from invkit.data.cache.split import read_split
from invkit.data.partition import LDCT_TEST
from invkit.data.prepare.prepare import prepare
from invkit.data.slices import load_slices
from invkit.errors import UsageError


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
    with pytest.raises(UsageError, match="keep their sets"):
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
