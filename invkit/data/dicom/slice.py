"""What is kept of a CT slice once its DICOM file is closed: the image in HU and numbers, nobody's name."""

__all__ = ["DicomSlice", "Gap", "Scan", "pseudonym"]

import hashlib
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray


def pseudonym(value: object) -> str:
    """Return the first 12 hexadecimal digits of a value's sha256, or "unknown" where there is none."""
    text = "" if value is None else str(value).strip()
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else "unknown"


@dataclass(frozen=True, eq=False)
class DicomSlice:
    """One axial CT slice.

    Attributes:
        image: the slice, shape `(H, W)`, float32, HU, nothing below -1024; padding is -1024.
        series: pseudonym of the series it belongs to.
        patient: pseudonym of the patient, "unknown" where the file states none.
        spacing: distance of the pixels' centres in mm, (between rows, between columns), or None.
        position: place along the normal of the slice in mm, growing towards the head, or None.
        plane: direction cosines of rows and columns and, in mm along them, the centre of the first pixel:
            eight numbers, or None.
        instance: number of the image in its series, or None.
        frame: index of the image in its file, 0 where a file holds one image.
        thickness: thickness of the slice in mm, or None.
        kernel: reconstruction kernel where its name is one in common use, else a pseudonym of it, or None.
        kvp: tube voltage in kV, or None.
        tube_current: in mA, or None.
        exposure: in mAs, or None.
        ctdi_vol: in mGy, or None.
    """

    image: NDArray[np.float32] = field(repr=False)
    series: str
    patient: str
    spacing: tuple[float, float] | None = None
    position: float | None = None
    plane: tuple[float, ...] | None = None
    instance: int | None = None
    frame: int = 0
    thickness: float | None = None
    kernel: str | None = None
    kvp: float | None = None
    tube_current: float | None = None
    exposure: float | None = None
    ctdi_vol: float | None = None

    @property
    def rows(self) -> int:
        """Height of the image in pixels."""
        return int(self.image.shape[0])

    @property
    def cols(self) -> int:
        """Width of the image in pixels."""
        return int(self.image.shape[1])

    @property
    def order(self) -> tuple[bool, float, int, int]:
        """What a series is sorted by: position, number, frame; slices without a position come last."""
        return (self.position is None, self.position or 0.0, self.instance or 0, self.frame)

    def identity(self) -> tuple[Any, ...]:
        """Return what two copies of one slice share."""
        return (self.series, *self.order, self.image.shape, hashlib.sha256(self.image.tobytes()).digest())


@dataclass(frozen=True)
class Gap:
    """A place in a series where slices are missing: between two positions in mm."""

    series: str
    start: float
    stop: float
    missing: int


@dataclass(frozen=True)
class Scan:
    """What a folder or archive holds.

    Attributes:
        slices: sorted by series, and within a series by position.
        skipped: (name below the folder, reason) of every file that gave no slice.
    """

    slices: tuple[DicomSlice, ...]
    skipped: tuple[tuple[str, str], ...]

    def series(self) -> dict[str, list[DicomSlice]]:
        """Return the slices of each series, sorted by position."""
        groups: dict[str, list[DicomSlice]] = {}
        for piece in self.slices:
            groups.setdefault(piece.series, []).append(piece)
        return {name: sorted(group, key=lambda piece: piece.order) for name, group in groups.items()}

    def gaps(self) -> list[Gap]:
        """Return where a series skips more than half a step beyond its usual distance between slices."""
        found = []
        for name, group in self.series().items():
            places = sorted({round(piece.position, 3) for piece in group if piece.position is not None})
            steps = [after - before for before, after in pairwise(places)]
            usual = median(steps) if steps else 0.0
            for before, step in zip(places, steps, strict=False):
                if step > 1.5 * usual:
                    found.append(Gap(name, before, before + step, round(step / usual) - 1))
        return found
