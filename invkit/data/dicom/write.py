"""A CT slice as a DICOM file that holds technical attributes and pseudonyms, and nothing of a patient."""

__all__ = ["HU_STORED", "derived_ct", "derived_uid"]

import hashlib
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from invkit.data.dicom.slice import DicomSlice

HU_STORED = (-1024, 64511)
"""HU that 16 bits hold with slope 1 and intercept -1024; others are cut to it."""

IMPLEMENTATION = UID("2.25.231402390154378206178204376135498420867")


def derived_uid(*names: str) -> UID:
    """Return a UID that depends on these names and on nothing else (DICOM PS3.5 B.2, the root 2.25)."""
    digest = hashlib.sha256("|".join(names).encode()).digest()
    return UID(f"2.25.{int.from_bytes(digest[:16], 'big')}")


def derived_ct(
    image: NDArray[np.float32],
    origin: DicomSlice,
    *,
    spacing: tuple[float, float],
    instance: int,
    series: UID,
    uid: UID,
    dose: float,
    description: str,
) -> bytes:
    """Return the bytes of a DICOM file with an image that was made of another.

    What it holds of its origin is what `DicomSlice` keeps: pseudonyms, place and technique. Tube current and
    exposure are multiplied by the dose.

    Args:
        image: shape `(H, W)`, HU; rounded to whole HU within `HU_STORED`.
        origin: the slice that it was made of.
        spacing: distance of rows and of columns, mm.
        instance: its number in the series.
        series: UID of the new series.
        uid: UID of the new image.
        dose: fraction of the dose of the origin.
        description: what was done, 1024 characters at most.
    """
    height, width = image.shape
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.ImplementationClassUID = IMPLEMENTATION
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, uid
    data.StudyInstanceUID = derived_uid("study", origin.series)
    data.FrameOfReferenceUID = derived_uid("frame", origin.series)
    data.SeriesInstanceUID = series
    data.PatientID = data.PatientName = origin.patient
    # The standard wants these present; they may be empty.
    for keyword in (
        "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber",
        "ReferringPhysicianName", "PositionReferenceIndicator", "AcquisitionNumber",
    ):  # fmt: skip
        setattr(data, keyword, "")
    data.Modality, data.Manufacturer = "CT", "invkit"
    data.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    data.PatientIdentityRemoved, data.DeidentificationMethod = "YES", "pseudonyms, technical attributes only"
    data.DerivationDescription = description
    data.SeriesNumber, data.InstanceNumber = 1, instance
    _place(data, origin, spacing, (height, width))
    _technique(data, origin, dose)
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns = height, width
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    data.RescaleSlope, data.RescaleIntercept, data.RescaleType = "1", str(HU_STORED[0]), "HU"
    stored = np.rint(np.clip(image, *HU_STORED)) - HU_STORED[0]
    data.PixelData = stored.astype("<u2").tobytes()
    data["PixelData"].VR = "OW"
    stream = BytesIO()
    dcmwrite(stream, data, enforce_file_format=True)
    return stream.getvalue()


def _place(data: Dataset, origin: DicomSlice, spacing: tuple[float, float], size: tuple[int, int]) -> None:
    """Set the pixels' size and place: an axial slice around the axis of the table."""
    data.PixelSpacing = [_decimal(side) for side in spacing]
    data.SliceThickness = "" if origin.thickness is None else _decimal(origin.thickness)
    height, width = (count * side for count, side in zip(size, spacing, strict=True))
    corner = ((spacing[1] - width) / 2, (spacing[0] - height) / 2, origin.position or 0.0)
    data.ImagePositionPatient = [_decimal(value) for value in corner]
    data.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    if origin.position is not None:
        data.SliceLocation = _decimal(origin.position)


def _technique(data: Dataset, origin: DicomSlice, dose: float) -> None:
    data.KVP = "" if origin.kvp is None else _decimal(origin.kvp)
    # A name that is not in common use is kept as a pseudonym, which is too long for the element.
    if origin.kernel is not None and len(origin.kernel) <= 16:
        data.ConvolutionKernel = origin.kernel
    if origin.tube_current is not None:
        data.XRayTubeCurrent = str(round(origin.tube_current * dose))
    if origin.exposure is not None:
        data.Exposure = str(round(origin.exposure * dose))
    if origin.ctdi_vol is not None:
        data.CTDIvol = origin.ctdi_vol * dose


def _decimal(value: float) -> str:
    """Return a number as a decimal string of at most 16 characters."""
    return f"{value:.9g}"
