"""No element of a data set reaches an error message or a slice's text, whatever is wrong with the file."""

import random
import traceback

import pytest
from ct_files import content, ct
from pydicom.datadict import DicomDictionary, dictionary_VR
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian

from invkit.data.dicom.read import decode, read_slices
from invkit.data.images import read_image
from invkit.errors import ImageError

CANARY = "CANARY"
UID_CANARY = "1.99.424242424242"
DATE_CANARY = "19420731"
TEXT_KINDS = {"PN", "LO", "SH", "LT", "ST", "UT", "AE", "UC"}
KEPT = {
    "ImageType",
    "Modality",
    "PhotometricInterpretation",
    "SOPClassUID",
    "TransferSyntaxUID",
    "RescaleType",
}


def marked():
    """A CT data set with a canary in every text, UID and date element, standard and private."""
    data = ct()
    for tag in DicomDictionary:
        group, kind = Tag(tag).group, dictionary_VR(tag)
        keyword = DicomDictionary[tag][4]
        if group <= 0x0004 or not keyword or keyword in KEPT or group in (0x5400, 0x5600) or group >= 0x6000:
            continue
        if kind in TEXT_KINDS:
            data.add_new(tag, kind, CANARY)
        elif kind == "UI":
            data.add_new(tag, kind, UID_CANARY)
        elif kind == "DA":
            data.add_new(tag, kind, DATE_CANARY)
    data.private_block(0x0099, CANARY, create=True).add_new(0, "LO", CANARY)
    item = Dataset()
    item.PatientName = CANARY
    data.ReferencedPatientSequence = Sequence([item])
    return data


def assert_silent(text):
    assert CANARY not in text
    assert UID_CANARY not in text
    assert DATE_CANARY not in text


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
