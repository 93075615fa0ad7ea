"""Slices in `.npy` and NIfTI files, in HU: what is in a file by its header, and its slices."""

__all__ = ["array_info", "is_array", "read_arrays"]

import importlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from invkit.data.dicom.info import SliceInfo
from invkit.data.dicom.pixels import AIR
from invkit.data.dicom.slice import pseudonym
from invkit.data.exam import dose_words
from invkit.data.images import as_image
from invkit.errors import ImageError

NIFTI_SUFFIXES = (".nii", ".nii.gz")
ARRAY_SUFFIXES = (".npy", *NIFTI_SUFFIXES)
EXTRA = "pip install 'invkit[nifti]'"


def is_array(path: Path) -> bool:
    """Return whether a file is an array by its name."""
    return path.name.lower().endswith(ARRAY_SUFFIXES)


def array_info(path: Path, root: Path) -> list[SliceInfo]:
    """Return the slices of an array by its header; pixels are not read.

    A `.npy` file holds `(H, W)`, `(B, H, W)` or `(B, 1, H, W)`, a NIfTI file `(X, Y, Z)`. The patient is told by the
    file's name without words for the dose, so partners in two folders are named alike. Files of one slice that have
    a number for a name are the slices of one patient, whose name is that of their folder.

    Args:
        path: the file.
        root: the path that the user named; folders above it do not count.

    Raises:
        ImageError: it is no such array, or NIfTI cannot be read here; the message completes "this file ...".
    """
    stem = path.name
    for suffix in ARRAY_SUFFIXES:
        stem = stem[: -len(suffix)] if stem.lower().endswith(suffix) else stem
    words = dose_words(stem)
    # Folders that stand for a dose are no part of the patient's name: full/a.npy and low/a.npy belong together.
    place = path.relative_to(root) if path != root else Path(path.name)
    folders = [name for name in place.parent.parts if dose_words(name) is None]
    volume = _opened(path)
    spacing, step = volume.spacing, volume.step
    numbered = volume.count == 1 and stem.isdecimal() and stem.isascii()
    name = [] if numbered else [words.rest if words else stem]
    patient = pseudonym("/".join([*folders, *name]) or path.absolute().parent.name)
    series = pseudonym(path.absolute().parent if numbered else path.absolute())
    first = int(stem) - 1 if numbered else 0
    return [
        SliceInfo(
            file=path,
            frame=index,
            frames=volume.count,
            series=series,
            patient=patient,
            rows=volume.rows,
            cols=volume.cols,
            words=words,
            spacing=spacing,
            position=(first + index) * step,
            instance=first + index,
            thickness=step if spacing else None,
            copy=f"{pseudonym(path.resolve())}/{index}",
        )
        for index in range(volume.count)
    ]


def read_arrays(path: Path, indices: Sequence[int]) -> list[NDArray[np.float32]]:
    """Return slices of an array, each `(H, W)`, float32, HU, nothing below -1024.

    Raises:
        ImageError: they are not there, or not HU of a CT.
    """
    volume = _opened(path)
    if max(indices) >= volume.count:
        raise ImageError("has fewer slices than before")
    try:
        slices = volume.read(indices)
    # A damaged file fails in many ways.
    except Exception as error:
        raise ImageError(f"is damaged: its reader fails with {type(error).__name__}") from None
    return [
        np.maximum(as_image(np.ascontiguousarray(item))[0, 0].numpy(), np.float32(AIR)) for item in slices
    ]


class _Volume(ABC):
    """An open array: size, places and a way to read some of its slices."""

    spacing: tuple[float, float] | None = None
    step = 1.0
    count: int
    rows: int
    cols: int

    @abstractmethod
    def read(self, indices: Sequence[int]) -> list[NDArray[Any]]:
        """Return some slices, each `(H, W)`, HU."""


class _Npy(_Volume):
    def __init__(self, path: Path) -> None:
        try:
            values = np.load(path, mmap_mode="r", allow_pickle=False)
        # A damaged header is parsed as a Python literal and fails in many ways.
        except Exception:
            raise ImageError("is not a usable .npy file of numbers: it is damaged or truncated") from None
        if not isinstance(values, np.ndarray) or values.dtype.kind not in "iuf":
            raise ImageError("is not a usable .npy file of numbers")
        if values.ndim == 4 and values.shape[1] == 1:
            values = values[:, 0]
        values = values[None] if values.ndim == 2 else values
        if values.ndim != 3 or not values.size:
            raise ImageError(f"has shape {values.shape}, wanted (H, W), (B, H, W) or (B, 1, H, W)")
        self.values = values
        self.count, self.rows, self.cols = values.shape

    def read(self, indices: Sequence[int]) -> list[NDArray[Any]]:
        return [np.array(self.values[index]) for index in indices]


class _Nifti(_Volume):
    def __init__(self, path: Path) -> None:
        try:
            nibabel: Any = importlib.import_module("nibabel")
        except ImportError:
            raise ImageError(f"is NIfTI. To read it: {EXTRA}") from None
        try:
            self.image = nibabel.load(path)
            shape = tuple(int(side) for side in self.image.shape)
            zooms = [float(side) for side in self.image.header.get_zooms()]
            # Row i: which of right, anterior and superior axis i of the file is, and whether it grows that way.
            self.axes = nibabel.io_orientation(self.image.affine)
            targets = [int(axis) for axis in self.axes[:, 0]]
        # nibabel raises nearly anything on a damaged file.
        except Exception as error:
            raise ImageError(f"is damaged: nibabel fails with {type(error).__name__}") from None
        if len(shape) == 4 and shape[3] == 1:
            shape = shape[:3]
        if len(shape) != 3 or not all(shape):
            raise ImageError(f"has shape {shape}, wanted (X, Y, Z)")
        self.turn = nibabel.apply_orientation
        self.cols, self.rows, self.count = (shape[targets.index(axis)] for axis in range(3))
        sides = [zooms[targets.index(axis)] for axis in range(3)]
        if all(np.isfinite(sides)) and min(sides) > 0:
            self.spacing, self.step = (sides[1], sides[0]), sides[2]

    def read(self, indices: Sequence[int]) -> list[NDArray[Any]]:
        first, last = 0, self.count
        stored = self.image.dataobj
        if self.axes[2, 0] == 2:
            # Slices as they are stored, so that only these have to be read.
            first, last = min(indices), max(indices) + 1
            up = self.axes[2, 1] > 0
            stored = stored[:, :, slice(first, last) if up else slice(self.count - last, self.count - first)]
        block = np.asarray(stored, dtype=np.float32)
        block = self.turn(block.reshape(block.shape[:3]), self.axes)
        # Turned to right, anterior, superior; the columns and rows of a DICOM image grow to the left and posterior.
        return [block[::-1, ::-1, index - first].T for index in indices]


def _opened(path: Path) -> _Volume:
    return _Npy(path) if path.name.lower().endswith(".npy") else _Nifti(path)
