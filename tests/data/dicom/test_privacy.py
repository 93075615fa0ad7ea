"""No element of a data set reaches an error message or a slice's text, whatever is wrong with the file."""

import random
import traceback

import pytest
from canaries import CANARY, UID_CANARY, assert_silent, marked
from ct_files import content
from pydicom.uid import ExplicitVRLittleEndian

from invkit.data.dicom.read import decode, read_slices
from invkit.data.images import read_image
from invkit.errors import ImageError


def test_slice_says_nothing_of_the_patient():
    (piece,) = decode(content(marked()))
    assert_silent(repr(piece))
    assert_silent(str(vars(piece)))
    assert piece.kernel.startswith("kernel-")
    assert piece.patient not in ("unknown", CANARY)


@pytest.mark.parametrize(
    "elements",
    [
        {"Modality": CANARY},
        {"SOPClassUID": UID_CANARY},
        {"RescaleType": CANARY},
        {"PhotometricInterpretation": CANARY},
        {"ImageType": ["LOCALIZER", CANARY]},
        {"RescaleSlope": None},
        {"Rows": 7},
    ],
)
def test_refusals_say_nothing_of_the_patient(elements, tmp_path):
    data = marked()
    for keyword, value in elements.items():
        if value is None:
            delattr(data, keyword)
        else:
            setattr(data, keyword, value)
    path = tmp_path / "slice.dcm"
    path.write_bytes(content(data))
    with pytest.raises(ImageError, match=r"slice\.dcm") as caught:
        read_image(path)
    assert_silent("".join(traceback.format_exception(caught.value)))
    assert_silent(str(read_slices(tmp_path).skipped))


def test_unknown_transfer_syntax_is_not_quoted():
    whole = content(marked(), ExplicitVRLittleEndian)
    changed = whole.replace(b"1.2.840.10008.1.2.1\0", b"1.99.424242424242.1\0", 1)
    with pytest.raises(ImageError, match="transfer syntax unknown") as caught:
        decode(changed)
    assert_silent(str(caught.value))


def test_mutants_say_nothing_of_the_patient(capfd, caplog):
    whole = content(marked())
    for index in range(100):
        chance = random.Random(index)
        data = bytearray(whole)
        for _ in range(3):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            text = repr(decode(bytes(data)))
        except ImageError as error:
            text = "".join(traceback.format_exception(error)) + repr(error.__context__)
        assert_silent(text)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
