"""Every kind of file that a scan reads, and what it says of those that it cannot use."""

import json

import nibabel
import numpy as np
import pytest
from canaries import CANARY, assert_silent, marked
from ct_files import content, ct, enhanced_ct
from ct_layouts import pair, slice_file, write_series
from ct_scan import described, reasons
from pydicom.uid import ExplicitVRLittleEndian

from invkit.data.prepare.layouts import find_series
from invkit.data.prepare.scan import scan
from invkit.errors import DataError, UsageError


def test_arrays_are_paired_by_name(tmp_path):
    for number in range(3):
        full, low = pair(number, 0)
        for kind, image in (("full", full), ("low", low)):
            (tmp_path / kind).mkdir(exist_ok=True)
            np.save(tmp_path / kind / f"doe-{number}.npy", np.stack([image, image]))
        np.save(tmp_path / f"roe-{number}_full.npy", full)
        np.save(tmp_path / f"roe-{number}_low.npy", low)
    report = described(tmp_path)
    assert (report["patients"], report["pairs"], report["layouts"]) == (6, 9, ["arrays"])
    spec = f"{tmp_path / 'full' / 'doe-0.npy'},{tmp_path / 'roe-0_low.npy'}"
    assert described(spec)["pairs"] == 1
    assert described(f"{tmp_path / 'full'},{tmp_path / 'low'}")["pairs"] == 6
    assert "doe" not in json.dumps(report)


def test_numbered_arrays_are_slices_of_their_folder(tmp_path):
    stack = np.stack([pair(0, index)[0] for index in range(3)])
    np.save(tmp_path / "doe.npy", stack)
    for number, image in enumerate(stack, 1):
        (tmp_path / "low").mkdir(exist_ok=True)
        np.save(tmp_path / "low" / f"{number:04d}.npy", image + np.int16(5))
    report = described(f"{tmp_path / 'doe.npy'},{tmp_path / 'low'}")
    assert (report["patients"], report["series"], report["pairs"]) == (1, 2, 3)


def test_arrays_of_something_else_are_skipped(tmp_path):
    np.save(tmp_path / "fine.npy", pair(0, 0)[0])
    np.save(tmp_path / "cube.npy", np.zeros((2, 2, 2, 8, 8)))
    np.save(tmp_path / "text.npy", np.array(["a", "b"]))
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "fine.npy").read_bytes()[:1000])
    found = reasons(described(tmp_path))
    assert set(found) == {"cube.npy", "text.npy", "object.npy", "cut.npy"}


def test_nifti_without_its_reader_names_the_extra(tmp_path, monkeypatch):
    np.save(tmp_path / "fine.npy", pair(0, 0)[0])
    (tmp_path / "a.nii.gz").write_bytes(b"x")
    monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
    assert reasons(described(tmp_path))["a.nii.gz"] == "is NIfTI. To read it: pip install 'invkit[nifti]'"


@pytest.mark.parametrize("axes", [("R", "A", "S"), ("L", "P", "S"), ("L", "A", "I"), ("S", "R", "A")])
def test_nifti_is_turned_as_dicom_images_are(tmp_path, axes):
    from invkit.data.prepare.pixels import read_pixels

    random = np.random.default_rng(0)
    # In the axes right, anterior, superior.
    truth = random.integers(-1000, 1000, (12, 16, 5)).astype(np.int16)
    affine = np.diag([0.5, 0.75, 2.0, 1.0])
    turn = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt(("R", "A", "S")), nibabel.orientations.axcodes2ornt(axes)
    )
    image = nibabel.Nifti1Image(truth, affine).as_reoriented(turn)
    nibabel.save(image, tmp_path / "a.nii.gz")
    (series,) = find_series([tmp_path]).series
    assert (series.first.rows, series.first.cols, series.first.spacing) == (16, 12, (0.75, 0.5))
    assert (len(series.slices), series.step) == (5, 2.0)
    images, _ = read_pixels(tmp_path / "a.nii.gz", [1, 3])
    for found, index in zip(images, (1, 3), strict=True):
        np.testing.assert_array_equal(found, truth[::-1, ::-1, index].T)


def test_frames_of_an_enhanced_file_are_slices(tmp_path):
    pixels = np.stack([pair(0, index)[0] + 1024 for index in range(3)]).astype(np.int16)
    file = content(enhanced_ct(pixels, [0, 3, 6], [(1, -1024)]), ExplicitVRLittleEndian)
    (tmp_path / "a.dcm").write_bytes(file)
    (series,) = find_series([tmp_path]).series
    assert [(item.frame, item.frames, item.position) for item in series.slices] == [
        (0, 3, 0),
        (1, 3, 3),
        (2, 3, 6),
    ]


def test_missing_rescale_is_taken_from_the_user_alone(tmp_path):
    write_series(tmp_path / "a", 0, slices=2)
    write_series(tmp_path / "b", 1, slices=2, uid="1.2.6", RescaleSlope=None, RescaleIntercept=None)
    report = described(tmp_path)
    assert report["slices"] == 2
    assert all("--slope" in skip["reason"] for skip in report["skipped"])
    assert described(tmp_path, rescale=(1, -1024))["slices"] == 4
    with pytest.raises(UsageError, match="slope"):
        scan([tmp_path], rescale=(0, 1))
    # One that is there but unreadable stays refused.
    broken = ct(RescaleSlope="1")
    broken.RescaleIntercept = ""
    (tmp_path / "broken.dcm").write_bytes(content(broken))
    assert "Rescale Intercept" in reasons(described(tmp_path, rescale=(1, -1024)))["broken.dcm"]


def test_what_cannot_be_used_is_skipped_with_its_reason(tmp_path):
    folder = write_series(tmp_path, 0)
    whole = slice_file(pair(0, 7)[0], index=7, uid="1.2.5", sop="1.2.5.7")
    faults = {
        "cut.dcm": (whole[:-100], "is truncated"),
        "empty.dcm": (b"", "is not a DICOM file"),
        "notes.txt": (b"Jane Doe", "is not a DICOM file"),
        "zip.zip": (b"PK\x03\x04....", "is a zip archive"),
        "scout.dcm": (content(ct(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])), "is a localizer"),
        "mr.dcm": (content(ct(Modality="MR")), "is of modality MR"),
        "mono.dcm": (content(ct(PhotometricInterpretation="RGB")), "is not a greyscale image"),
        "slope.dcm": (content(ct(slope="0")), "has Rescale Slope 0"),
    }
    for name, (data, _) in faults.items():
        (folder / name).write_bytes(data)
    (folder / "loop").symlink_to(folder)
    (folder / "gone.dcm").symlink_to(folder / "nothing")
    found = reasons(described(tmp_path))
    assert {name: found[name].startswith(reason) for name, (_, reason) in faults.items()} == dict.fromkeys(
        faults, True
    )
    assert "cannot be read" in found["gone.dcm"]


def test_nothing_usable_says_why(tmp_path):
    with pytest.raises(DataError, match="no file"):
        scan([tmp_path])
    for index in range(3):
        (tmp_path / f"{index}").write_bytes(content(ct(Modality="MR")))
    with pytest.raises(DataError, match=r"3 x: is of modality MR"):
        scan([tmp_path])


def test_no_patient_attribute_comes_out(tmp_path, capfd, caplog):
    data = marked()
    data.PixelSpacing = ["0.5", "0.75"]
    whole = content(data)
    (tmp_path / "a.dcm").write_bytes(whole)
    # A UID that pydicom would quote in a warning.
    (tmp_path / "b.dcm").write_bytes(whole.replace(b"1.99.424242424242", b"1.99.42424242424x"))
    caplog.clear()
    report = scan([tmp_path])
    assert_silent(json.dumps(report.describe()))
    assert len(report.found.series) == 2
    assert CANARY not in repr(report.found.series[0].slices)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
