"""CT data sets with a canary in every element that may name a patient."""

from ct_files import ct
from pydicom.datadict import DicomDictionary, dictionary_VR
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

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
