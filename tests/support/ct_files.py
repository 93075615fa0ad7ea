"""DICOM files of CT slices, made on the fly, for the tests of this folder."""

from io import BytesIO

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

ROWS, COLS = 24, 32


def stored_pixels(rows=ROWS, cols=COLS, low=0, high=3000, dtype=np.int16):
    """A ramp from low to high that differs in every row and column."""
    return np.linspace(low, high, rows * cols).round().astype(dtype).reshape(rows, cols)


def ct(pixels=None, *, bits=16, signed=True, slope="1", intercept="-1024", **elements):
    """A CT data set; an element set to None is deleted."""
    pixels = stored_pixels() if pixels is None else np.asarray(pixels)
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = CTImageStorage
    data.SOPInstanceUID = generate_uid()
    data.SeriesInstanceUID = "1.2.3.4"
    data.StudyInstanceUID = "1.2.3"
    data.PatientID = "P1"
    data.Modality = "CT"
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.InstanceNumber = "1"
    data.PixelSpacing = ["0.5", "0.75"]
    data.SliceThickness = "2.5"
    data.ImagePositionPatient = ["0", "0", "10"]
    data.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.Rows, data.Columns = pixels.shape[-2:]
    if pixels.ndim == 3:
        data.NumberOfFrames = str(len(pixels))
    data.BitsAllocated = 8 * pixels.dtype.itemsize
    data.BitsStored = bits
    data.HighBit = bits - 1
    data.PixelRepresentation = int(signed)
    data.RescaleSlope, data.RescaleIntercept = slope, intercept
    data.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    data["PixelData"].VR = "OW"
    for keyword, value in elements.items():
        if value is None:
            delattr(data, keyword)
        else:
            setattr(data, keyword, value)
    return data


def enhanced_ct(pixels, positions, rescales, **elements):
    """An enhanced multi-frame CT: one rescale is shared, several are per frame."""
    data = ct(pixels, SOPClassUID=EnhancedCTImageStorage, **elements)
    for keyword in (
        "RescaleSlope",
        "RescaleIntercept",
        "ImagePositionPatient",
        "PixelSpacing",
        "SliceThickness",
    ):
        delattr(data, keyword)
    shared = Dataset()
    measures = Dataset()
    measures.PixelSpacing, measures.SliceThickness = ["0.5", "0.75"], "2.5"
    shared.PixelMeasuresSequence = Sequence([measures])
    frames = []
    for index, position in enumerate(positions):
        place = Dataset()
        place.ImagePositionPatient = ["0", "0", str(position)]
        frame = Dataset()
        frame.PlanePositionSequence = Sequence([place])
        if len(rescales) > 1:
            frame.PixelValueTransformationSequence = Sequence([rescale(*rescales[index])])
        frames.append(frame)
    if len(rescales) == 1:
        shared.PixelValueTransformationSequence = Sequence([rescale(*rescales[0])])
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    data.PerFrameFunctionalGroupsSequence = Sequence(frames)
    return data


def rescale(slope, intercept, unit="HU"):
    item = Dataset()
    item.RescaleSlope, item.RescaleIntercept, item.RescaleType = str(slope), str(intercept), unit
    return item


def content(data, syntax=ExplicitVRLittleEndian, *, preamble=True):
    """The bytes of a DICOM file; without a preamble also without file meta information."""
    stream = BytesIO()
    if preamble:
        data.file_meta.TransferSyntaxUID = syntax
        dcmwrite(stream, data, enforce_file_format=True)
    else:
        data.file_meta = FileMetaDataset()
        dcmwrite(
            stream,
            data,
            implicit_vr=syntax.is_implicit_VR,
            little_endian=syntax.is_little_endian,
            enforce_file_format=False,
        )
    return stream.getvalue()
