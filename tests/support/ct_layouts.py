"""Simulated patients, written as real DICOM files in the layouts of the public low-dose data sets."""

from functools import cache
from pathlib import Path

import numpy as np
from ct_files import content, ct

from invkit.data.slices import load_slices

PATIENTS = ("L001", "L002", "L003", "L004", "L005", "L006")
STEP = 3.0


@cache
def anatomy(number, size=64):
    """A noise-free phantom, HU."""
    return load_slices("phantoms:12", size=size).slices[number % 12].clean


def pair(number, index, size=64):
    """Full-dose and low-dose pixels of one slice, whole HU."""
    random = np.random.default_rng([number, index])
    full = np.roll(anatomy(number, size), index, axis=0) + random.normal(0, 8, (size, size))
    low = full + random.normal(0, 8 * 3**0.5, (size, size))
    return tuple(np.clip(image, -1024, 3071).round().astype(np.int16) for image in (full, low))


def patient_number(patient):
    """What tells one simulated patient from others."""
    return 1000 * ord(patient[0]) + int(patient[1:])


def slice_file(pixels, *, index, uid, sop, **elements):
    """The bytes of a slice at its position."""
    fields = {
        "SeriesInstanceUID": uid,
        "SOPInstanceUID": sop,
        "ImagePositionPatient": ["-100", "-100", str(index * STEP)],
        "PixelSpacing": ["0.8", "0.8"],
        "SliceThickness": str(STEP),
        "InstanceNumber": str(index + 1),
        "ConvolutionKernel": "B30f",
        **elements,
    }
    data = ct(pixels.astype(np.int16) + np.int16(1024), **fields)
    return content(data)


def write_tcia(root, patients=PATIENTS, slices=3, size=64, *, kinds=("Low", "Full"), **elements):
    """Write patients as LDCT-and-Projection-data has them; low-dose slices are named in another order."""
    for patient in patients:
        number = patient_number(patient)
        study = Path(root) / "LDCT-and-Projection-data" / patient / "08-30-2018-NA-NA-12345"
        for kind in kinds:
            serial = 10000 + 97 * number + (7 if kind == "Low" else 0)
            folder = study / f"1.000000-{kind} Dose Images-{serial}"
            folder.mkdir(parents=True, exist_ok=True)
            for index in range(slices):
                full, low = pair(number, index, size)
                name = index + 1 if kind == "Full" else slices - index
                file = slice_file(
                    low if kind == "Low" else full,
                    index=index,
                    uid=f"1.2.3.{serial}",
                    sop=f"1.2.3.{serial}.{index}",
                    PatientID=patient,
                    **elements,
                )
                (folder / f"1-{name:03d}.dcm").write_bytes(file)
        projections = study / f"1.000000-Full dose projections-{20000 + number}"
        projections.mkdir(exist_ok=True)
        (projections / "1-00001.dcm").write_bytes(b"nothing that needs to be read")
    return Path(root)


def write_challenge(root, patients=PATIENTS, slices=3, size=64, *, variant="3mm_sharp", suffix=".IMA"):
    """Write patients as the 2016 challenge has them: names say nothing of the position, ids differ by dose."""
    for patient in patients:
        number = patient_number(patient)
        for kind, mark in (("full", "FD"), ("quarter", "QD")):
            folder = Path(root) / patient / f"{kind}_{variant}"
            folder.mkdir(parents=True, exist_ok=True)
            serial = 10000 + 97 * number + (7 if kind == "full" else 0)
            for index in range(slices):
                full, low = pair(number, index, size)
                file = slice_file(
                    full if kind == "full" else low,
                    index=index,
                    uid=f"1.2.4.{serial}.{variant.count('1')}",
                    sop=f"1.2.4.{serial}.{variant.count('1')}.{index}",
                    PatientID=f"{patient}_{mark}",
                    SliceThickness=variant[0],
                )
                (folder / f"{patient}_{mark}.CT.{(index * 7) % slices}.{index}{suffix}").write_bytes(file)
    return Path(root)


def write_series(
    folder, number=0, slices=3, size=64, *, low=False, uid="1.2.5", patient="Doe^Jane", **elements
):
    """Write one series into a folder, with names that say nothing."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for index in range(slices):
        pixels = pair(number, index, size)[low]
        file = slice_file(pixels, index=index, uid=uid, sop=f"{uid}.{index}", PatientID=patient, **elements)
        (Path(folder) / f"x{(index * 5 + 2 * low) % 11}-{uid[-1]}.dcm").write_bytes(file)
    return Path(folder)
