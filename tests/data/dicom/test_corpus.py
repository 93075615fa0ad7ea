"""Every file that pydicom and pydicom-data ship: the same HU as pydicom's own functions, or one error."""

import contextlib
import logging
import warnings
from importlib import resources
from pathlib import Path

import data_store
import numpy as np
import pydicom
import pytest
from pydicom.pixels import apply_modality_lut, get_decoder

from invkit.data.dicom.info import dicom_info
from invkit.data.dicom.read import decode, read_slices
from invkit.errors import ImageError

FOLDERS = [Path(str(resources.files("pydicom"))) / "data", Path(data_store.__file__).parent / "data"]
FILES = sorted(path for folder in FOLDERS for path in folder.rglob("*") if path.is_file())
# The reader refuses these CT files, each for a reason that stands in the file.
REFUSED = {
    "6293": "localizer",
    "6924": "localizer",
    "eCT_Supplemental.dcm": "not in HU",
}


def reference(path):
    """The data set and its HU by pydicom alone, or None where it is no CT image."""
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                data = pydicom.dcmread(path, force=True)
            except Exception:
                return None
            if data.get("Modality") != "CT" or "PixelData" not in data:
                return None
            if not get_decoder(data.file_meta.TransferSyntaxUID).is_available:
                return data, None
            return data, apply_modality_lut(data.pixel_array, data)
    finally:
        logging.getLogger("pydicom").setLevel(logging.NOTSET)


def test_every_shipped_file_gives_a_slice_or_one_error():
    assert len(FILES) > 200
    slices, reasons = 0, []
    for path in FILES:
        try:
            found = decode(path.read_bytes())
        except ImageError as error:
            reasons.append(str(error))
        else:
            slices += len(found)
            for piece in found:
                assert piece.image.ndim == 2
                assert piece.image.dtype == np.float32
                assert np.isfinite(piece.image).all()
                assert piece.image.min() >= -1024
    assert slices >= 13
    assert all(reasons)


def test_every_shipped_ct_file_has_the_hu_that_pydicom_computes():
    seen = []
    for path in FILES:
        if (found := reference(path)) is None:
            continue
        data, expected = found
        seen.append(path.name)
        if path.name in REFUSED:
            with pytest.raises(ImageError, match=REFUSED[path.name]):
                decode(path.read_bytes())
        elif expected is None:
            with pytest.raises(ImageError, match=r"pip install 'invkit\[dicom\]'"):
                decode(path.read_bytes())
        else:
            (piece,) = decode(path.read_bytes())
            if (padding := data.get("PixelPaddingValue")) is not None:
                expected[data.pixel_array == padding] = -1024
            np.testing.assert_array_equal(piece.image, np.maximum(expected, -1024).astype(np.float32))
            assert piece.spacing == tuple(float(value) for value in data.PixelSpacing)
            if np.abs(data.ImageOrientationPatient).round(6).tolist() == [1, 0, 0, 0, 1, 0]:
                assert piece.position == pytest.approx(float(data.ImagePositionPatient[2]), abs=1e-6)
    assert {"CT_small.dcm", "J2K_pixelrep_mismatch.dcm", "693_J2KR.dcm", "bad_sequence.dcm"} <= set(seen)


def test_a_folder_of_everything_is_scanned():
    scan = read_slices(FOLDERS[0])
    assert len(scan.series()) >= 4
    assert {piece.spacing is None for piece in scan.slices} == {False}
    assert len(scan.skipped) > 100
    assert all(name and reason for name, reason in scan.skipped)


# What becomes of every shipped file that states CT as its modality, by name; MANY stand for the files named IM......
SLICES = {
    "693_J2KR.dcm",
    "693_UNCI.dcm",
    "693_UNCR.dcm",
    "explicit_VR-UN.dcm",
    "693_J2KI.dcm",
    "CT_small.dcm",
    "J2K_pixelrep_mismatch.dcm",
    *("17106", "17136", "17166", "17196", "2062", "2392", "2693", "3023", "3353"),
}
ERRORS = {
    "6293": "is a localizer, not a slice",
    "6924": "is a localizer, not a slice",
    "eCT_Supplemental.dcm": "is not in HU",
    "bad_sequence.dcm": "is compressed (JPEG Lossless",
    "IM": "has no pixel data",
}


def test_every_shipped_ct_file_comes_to_what_is_expected():
    seen = set()
    for path in FILES:
        with contextlib.suppress(Exception), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if pydicom.dcmread(path, stop_before_pixels=True, force=True).get("Modality") != "CT":
                continue
            name = "IM" if path.name.startswith("IM") else path.name
            seen.add(name)
    assert seen == SLICES | set(ERRORS)
    for path in FILES:
        name = "IM" if path.name.startswith("IM") else path.name
        if name in SLICES:
            assert len(decode(path.read_bytes())) == 1, name
        elif name in ERRORS:
            try:
                found = decode(path.read_bytes())
            except ImageError as error:
                outcome = str(error)
            else:
                # Where a decoder of JPEG Lossless is installed.
                outcome = ERRORS[name] if name == "bad_sequence.dcm" and len(found) == 1 else "a slice"
            assert outcome.startswith(ERRORS[name]), name


@pytest.mark.parametrize("name", ["693_J2KR.dcm", "693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm"])
def test_a_code_stream_without_its_end_is_refused(name):
    (path,) = (path for path in FILES if path.name == name)
    content = path.read_bytes()
    place = content.rfind(b"\xff\xd9")
    with pytest.raises(ImageError, match="end early"):
        decode(content[:place] + b"\0\0" + content[place + 2 :])


def test_headers_alone_tell_what_decoding_finds():
    """A scan reads no pixels: it must accept what can be decoded, and refuse the rest for the same reason."""
    differing = {}
    for path in FILES:
        found = []
        for read in (lambda path: decode(path.read_bytes()), dicom_info):
            try:
                found.append(
                    [
                        (piece.series, piece.patient, piece.rows, piece.cols, piece.position, piece.spacing)
                        for piece in read(path)
                    ]
                )
            except ImageError as error:
                found.append(str(error))
        if found[0] != found[1]:
            differing[path.name] = found
    # The header stops before what is damaged in this one.
    assert set(differing) <= {"emri_small_jpeg_2k_lossless_too_short.dcm"}
