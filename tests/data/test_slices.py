import shutil

import numpy as np
import pytest
from pydicom.data import get_testdata_file

from invkit.data.slices import SliceSet, load_slices
from invkit.errors import DataError, ImageError, InvkitError, UsageError


def test_default_is_240_phantoms_made_lazily() -> None:
    slices = load_slices(None)
    assert len(slices.slices) == 240
    assert len({item.patient for item in slices.slices}) == 240
    levels = np.array([item.noise for item in slices.slices])
    assert levels.min() >= 8
    assert levels.max() <= 22
    assert levels.std() > 3
    assert not any("_pixels" in vars(item) for item in slices.slices)
    assert slices.fingerprint == load_slices(()).fingerprint == load_slices(["phantoms"]).fingerprint


def test_a_phantom_slice_holds_its_own_noise_and_knows_the_truth() -> None:
    item = load_slices("phantoms:2", size=256).slices[1]
    assert item.image.shape == item.clean.shape == (256, 256)
    np.testing.assert_array_equal(item.image, item.image)
    inside = (item.clean > -900) & (item.clean < 2900)
    assert (item.image - item.clean)[inside].std() == pytest.approx(item.noise, rel=0.1)


def test_fingerprint_tells_what_the_set_is_made_of() -> None:
    prints = {
        load_slices(["phantoms:8"]).fingerprint,
        load_slices(["phantoms:9"]).fingerprint,
        load_slices(["phantoms:8"], seed=1).fingerprint,
        load_slices(["phantoms:8"], size=64).fingerprint,
        load_slices(["phantoms:8"]).part("train").fingerprint,
        load_slices(["phantoms:8"]).part("test").fingerprint,
    }
    assert len(prints) == 6
    assert all(len(text) == 64 for text in prints)


def test_parts_share_no_patient_and_make_up_the_whole() -> None:
    whole = load_slices(["phantoms:50"])
    parts = [whole.part(name) for name in ("train", "validation", "test")]
    patients = [{item.patient for item in part.slices} for part in parts]
    assert [len(names) for names in patients] == [35, 10, 5]
    assert len(set.union(*patients)) == 50
    with pytest.raises(UsageError, match="train, validation, test"):
        whole.part("holdout")


def write_patients(folder, count: int, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        stack = rng.normal(40, 10, size=(3, 40, 40)).astype(np.float32)
        np.save(folder / f"anna-{number}.npy", stack)


def test_arrays_are_read_and_split_by_patient(tmp_path) -> None:
    write_patients(tmp_path / "a", 10, np.random.default_rng(0))
    slices = load_slices([tmp_path / "a"])
    assert len(slices.slices) == 30
    assert len({item.patient for item in slices.slices}) == 10
    assert slices.slices[0].clean is None
    assert slices.slices[0].source.startswith("ct-")
    assert [len(slices.part(name).slices) for name in ("train", "validation", "test")] == [21, 6, 3]
    assert "anna" not in repr(slices)


def test_names_and_paths_decide_nothing(tmp_path) -> None:
    write_patients(tmp_path / "a", 4, np.random.default_rng(0))
    (tmp_path / "b" / "deep").mkdir(parents=True)
    for number, file in enumerate(sorted((tmp_path / "a").iterdir(), reverse=True)):
        shutil.copy(file, tmp_path / "b" / "deep" / f"x{number}.npy")
    first, second = load_slices(tmp_path / "a"), load_slices(tmp_path / "b")
    assert first.fingerprint == second.fingerprint
    assert {item.patient for item in first.part("train").slices} == {
        item.patient for item in second.part("train").slices
    }
    changed = np.load(tmp_path / "b" / "deep" / "x0.npy")
    changed[0, 0, 0] += 1
    np.save(tmp_path / "b" / "deep" / "x0.npy", changed)
    assert load_slices(tmp_path / "b").fingerprint != first.fingerprint


def test_dicom_and_phantoms_combine(tmp_path) -> None:
    shutil.copy(get_testdata_file("CT_small.dcm"), tmp_path / "slice.dcm")
    both = load_slices([tmp_path, "phantoms:3"])
    assert {item.source for item in both.slices} == {"phantoms", both.slices[0].source}
    ct = both.slices[0]
    assert ct.image.shape == (128, 128)
    assert 1 < ct.noise < 60
    assert both.fingerprint == load_slices(["phantoms:3", tmp_path]).fingerprint
    assert "1 CT slices of 1 patients" in both.description


@pytest.mark.parametrize("spec", ["phantoms:0", "phantoms:x", "phantomsx"])
def test_malformed_phantom_specs_are_refused(spec: str) -> None:
    with pytest.raises(UsageError, match="phantoms:N"):
        load_slices([spec])


def test_missing_and_empty_paths_are_refused(tmp_path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        load_slices([tmp_path / "nothing"])
    with pytest.raises(InvkitError):
        load_slices([tmp_path])
    with pytest.raises(UsageError, match="given twice"):
        load_slices(["phantoms:2", "phantoms:2"])


def test_arrays_of_patients_are_a_set_like_that_of_their_files(tmp_path):
    stacks = np.random.default_rng(0).normal(0, 30, (2, 3, 64, 64)).astype(np.float32)
    made = SliceSet.of({"a": stacks[0], "b": list(stacks[1].astype(np.float64))}, spacing=(0.5, 0.6))
    assert [item.patient for item in made.slices] == ["a"] * 3 + ["b"] * 3
    assert {item.spacing for item in made.slices} == {(0.5, 0.6)}
    assert np.array_equal(made.slices[4].image, stacks[1, 1])
    assert made.slices[0].noise == pytest.approx(30, rel=0.2)
    assert made.fingerprint == SliceSet.of({"b": stacks[1], "a": stacks[0]}, spacing=(0.5, 0.6)).fingerprint
    assert made.fingerprint != SliceSet.of({"a": stacks[0], "b": stacks[1]}, spacing=(0.5, 0.7)).fingerprint
    with pytest.raises(DataError, match="no slice"):
        SliceSet.of({"a": []})
    with pytest.raises(ImageError):
        SliceSet.of({"a": np.full((1, 8, 8), np.nan)})
