"""Full-dose slices below a path, in memory: DICOM, zips of DICOM, or arrays in HU."""

from __future__ import annotations

__all__ = ["digest", "read_arrays"]

import hashlib
import os
from pathlib import Path

import numpy as np

from invkit.data.dicom.read import read_slices
from invkit.data.exam import dose_words
from invkit.data.images import read_image
from invkit.errors import DataError

Found = tuple[str, np.ndarray, tuple[float, float] | None]


def read_arrays(path: Path) -> list[Found]:
    """Return (pseudonym, pixels in HU, spacing) of every full-dose slice below a path.

    Args:
        path: a DICOM file, folder or zip, an `.npy` file or a folder of them.

    Raises:
        DataError: it is missing, holds no slice, or slices of two doses.
    """
    if not path.exists():
        raise DataError(
            f"{path} does not exist: training data are 'phantoms', 'phantoms:N', or a path of CT slices. "
            "Pairs of full and low dose are prepared first, with invkit data prepare"
        )
    _refuse_two_doses(path)
    images = _arrays(path)
    if not images:
        raise DataError(f"{path} contains no CT slice that can be read (DICOM, zip of DICOM, or .npy in HU)")
    return images


def _refuse_two_doses(path: Path) -> None:
    """Refuse a folder whose sub-folders are named for full and for low dose: not all of it is at full dose."""
    roles = {words.role for _, folders, _ in os.walk(path) for name in folders if (words := dose_words(name))}
    if len(roles) == 2:
        raise DataError(
            f"{path} contains slices at full and at low dose. Prepare it once: invkit data prepare {path} --out CACHE, then "
            "give CACHE"
        )


def _arrays(path: Path) -> list[Found]:
    """Return (pseudonym, pixels, spacing) of all slices below a path."""
    files = [path] if path.suffix == ".npy" else sorted(path.rglob("*.npy")) if path.is_dir() else []
    result: list[Found] = []
    for file in files:
        stack = read_image(file)[:, 0].numpy()
        patient = f"patient-{digest(stack, None)[:12]}"
        result += [(patient, image, None) for image in stack]
    if not files:
        result = [
            (item.series if item.patient == "unknown" else item.patient, item.image, item.spacing)
            for item in read_slices(path).slices
        ]
    return result


def digest(pixels: np.ndarray, spacing: tuple[float, float] | None) -> str:
    """Return the sha256 of a slice: its shape, spacing and pixels as float32."""
    found = hashlib.sha256(f"{pixels.shape}|{spacing}|".encode())
    found.update(np.ascontiguousarray(pixels, dtype="<f4").tobytes())
    return found.hexdigest()
