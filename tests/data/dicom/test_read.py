"""Folders of CT slices: grouped by series, sorted by position, what is missing or unusable reported."""

import random

import numpy as np
import pytest
from ct_files import content, ct, enhanced_ct, stored_pixels

from invkit.data.dicom.read import read_dicom_slices, read_slices
from invkit.data.images import read_image
from invkit.errors import ImageError


def write_series(folder, positions, *, uid="1.2.3.4", shuffle=None, **elements):
    """One file per position; pixel values hold the position, names are in random order."""
    folder.mkdir(parents=True, exist_ok=True)
    names = list(range(len(positions)))
    random.Random(shuffle).shuffle(names)
    for name, position in zip(names, positions, strict=True):
        pixels = np.full((8, 8), 1024 + int(position), dtype=np.int16)
        place = ["0", "0", str(position)]
        data = ct(pixels, SeriesInstanceUID=uid, ImagePositionPatient=place, **elements)
        (folder / f"{name:03d}.dcm").write_bytes(content(data))


def test_series_is_sorted_by_position(tmp_path):
    write_series(tmp_path / "a" / "b", [30, -20, 10, 0, 20, -10], shuffle=1)
    image = read_image(tmp_path)
    assert image.shape == (6, 1, 8, 8)
    assert image[:, 0, 0, 0].tolist() == [-20, -10, 0, 10, 20, 30]


def test_slices_without_position_are_sorted_by_number(tmp_path):
    for number in (3, 1, 2):
        pixels = np.full((8, 8), 1024 + number, dtype=np.int16)
        data = ct(pixels, ImagePositionPatient=None, InstanceNumber=str(number))
        (tmp_path / f"{5 - number}").write_bytes(content(data))
    assert read_image(tmp_path)[:, 0, 0, 0].tolist() == [1, 2, 3]


def test_frames_of_an_enhanced_ct_are_sorted_by_position(tmp_path):
    pixels = np.stack([stored_pixels(8, 8, high=high) for high in (1000, 2000, 3000)])
    (tmp_path / "x.dcm").write_bytes(content(enhanced_ct(pixels, [30, 10, 20], [(1, -1024)])))
    assert read_image(tmp_path / "x.dcm").amax((1, 2, 3)).tolist() == [2000 - 1024, 3000 - 1024, 1000 - 1024]


def test_several_series_are_listed_by_pseudonym(tmp_path):
    write_series(tmp_path / "a", [0, 1], uid="1.2.3.4.1")
    write_series(tmp_path / "b", [0, 1, 2], uid="1.2.3.4.2")
    with pytest.raises(ImageError, match="holds 2 series") as caught:
        read_image(tmp_path)
    text = str(caught.value)
    assert "(2 slices)" in text
    assert "(3 slices)" in text
    assert "Pass the sub-folder or the file" in text
    assert "1.2.3.4" not in text
    assert read_image(tmp_path / "b").shape == (3, 1, 8, 8)
    scan = read_slices(tmp_path)
    assert sorted(len(group) for group in scan.series().values()) == [2, 3]
    assert len(read_dicom_slices(tmp_path)) == 5


def test_slices_of_differing_size_are_refused(tmp_path):
    write_series(tmp_path, [0, 1])
    (tmp_path / "x").write_bytes(content(ct(stored_pixels(8, 10))))
    with pytest.raises(ImageError, match="differing size: 8 x 8, 8 x 10"):
        read_image(tmp_path)


def test_unusable_files_and_localizers_are_skipped_with_reasons(tmp_path):
    write_series(tmp_path / "series", [0, 1, 2])
    scout = content(ct(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    (tmp_path / "scout.dcm").write_bytes(scout)
    (tmp_path / "notes.txt").write_text("Jane Doe")
    (tmp_path / "empty").touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")
    scan = read_slices(tmp_path)
    assert len(scan.slices) == 3
    reasons = dict(scan.skipped)
    assert reasons["scout.dcm"] == "is a localizer, not a slice"
    assert reasons["notes.txt"] == reasons["empty"] == "is not a DICOM file"
    assert "cannot be read" in reasons["gone"]
    assert read_image(tmp_path).shape == (3, 1, 8, 8)


def test_copies_are_read_once(tmp_path):
    write_series(tmp_path / "a", [0, 1])
    write_series(tmp_path / "b", [0, 1])
    scan = read_slices(tmp_path)
    assert len(scan.slices) == 2
    assert {reason for _, reason in scan.skipped} == {"is a copy of a slice that is already there"}


def test_gaps_are_reported(tmp_path):
    write_series(tmp_path, [0, 5, 10, 25, 30, 40])
    gaps = read_slices(tmp_path).gaps()
    assert [(gap.start, gap.stop, gap.missing) for gap in gaps] == [(10.0, 25.0, 2), (30.0, 40.0, 1)]


def test_patients_have_pseudonyms_that_tell_them_apart(tmp_path):
    for index, patient in enumerate(("Doe^Jane", "Doe^Jane", "Roe^Richard", "")):
        data = ct(np.full((8, 8), index, dtype=np.int16), PatientID=patient)
        (tmp_path / f"{index}").write_bytes(content(data))
    found = {piece.image[0, 0] + 1024: piece.patient for piece in read_dicom_slices(tmp_path)}
    assert found[0] == found[1] != found[2]
    assert found[3] == "unknown"
    assert not any("Doe" in name or "Roe" in name for name in found.values())


def test_folder_without_a_slice_says_why(tmp_path):
    with pytest.raises(ImageError, match="holds no file"):
        read_image(tmp_path)
    for index in range(3):
        (tmp_path / f"{index}").write_bytes(content(ct(Modality="MR")))
    (tmp_path / "x").write_bytes(b"x")
    with pytest.raises(
        ImageError, match=r"among 4 files \(3 x: is of modality MR, not CT; 1 x: is not a DICOM"
    ):
        read_image(tmp_path)


def test_total_size_is_limited(tmp_path, monkeypatch):
    monkeypatch.setattr("invkit.data.dicom.read.TOTAL_LIMIT", 100)
    write_series(tmp_path, [0, 1])
    with pytest.raises(ImageError, match="more than 100 pixels"):
        read_image(tmp_path)
