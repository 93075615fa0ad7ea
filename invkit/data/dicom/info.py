"""What the header of a DICOM file says of its slices: where they lie and how they were made, nobody's name."""

__all__ = ["SliceInfo", "dicom_info"]

import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from invkit.data.dicom.archive import FILE_LIMIT, ZIP_MAGIC
from invkit.data.dicom.read import read_header, silent
from invkit.data.dicom.slice import pseudonym
from invkit.data.exam import Words, dose_words, exam_of
from invkit.errors import ImageError

HINT = ". Where you know them, state them with --slope and --intercept"


@dataclass(frozen=True)
class SliceInfo:
    """One slice that has not been read yet; names and numbers as in `DicomSlice`.

    Args:
        file: where it is.
        frame: index of the image in its file.
        frames: how many images the file has.
        copy: the same for copies of one slice only; empty where the file does not say.
        words: what the series' description says of the dose.
        exam: a key of `invkit.data.exam.EXAMS`.
    """

    file: Path
    frame: int
    frames: int
    series: str
    patient: str
    rows: int
    cols: int
    copy: str = ""
    words: Words | None = None
    exam: str = "other"
    spacing: tuple[float, float] | None = None
    position: float | None = None
    plane: tuple[float, ...] | None = None
    instance: int | None = None
    thickness: float | None = None
    kernel: str | None = None
    kvp: float | None = None
    tube_current: float | None = None
    exposure: float | None = None
    ctdi_vol: float | None = None

    @property
    def order(self) -> tuple[bool, float, int, str, int]:
        """What a series is sorted by: position, number, file name, frame; slices without a position come last."""
        place = self.position or 0.0
        return (self.position is None, place, self.instance or 0, self.file.name, self.frame)


def dicom_info(path: Path, *, rescale: tuple[float, float] | None = None) -> list[SliceInfo]:
    """Return the slices of a DICOM file by its header; pixels are not read.

    Args:
        path: the file.
        rescale: slope and intercept by the user's word, taken where the file lacks them.

    Raises:
        ImageError: it is no CT image by all that the header says; the message completes "this file ..." and
            quotes nothing of a patient.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("is not a regular file")
        if status.st_size > FILE_LIMIT:
            raise ImageError(f"has {status.st_size} bytes, the limit is {FILE_LIMIT}")
        with path.open("rb") as stream:
            if stream.read(4) in ZIP_MAGIC:
                raise ImageError("is a zip archive: unpack it first")
            stream.seek(0)
            data, layout, frames = read_header(stream, status.st_size, rescale=rescale)
    except OSError as error:
        raise ImageError(f"cannot be read ({error.strerror or type(error).__name__})") from None
    except ImageError as error:
        reason = str(error)
        raise ImageError(reason + HINT if "does not guess" in reason else reason) from None
    with silent():
        uid = _text(data, "SOPInstanceUID")
        common: dict[str, Any] = {
            "file": path,
            "frames": layout.frames,
            "series": pseudonym(_text(data, "SeriesInstanceUID")),
            "patient": pseudonym(_text(data, "PatientID")),
            "rows": layout.rows,
            "cols": layout.cols,
            "words": dose_words(_text(data, "SeriesDescription")),
            "exam": exam_of(None, _text(data, "BodyPartExamined")),
        }
        ours = _text(data, "Manufacturer") == "invkit"
    copies = [f"{pseudonym(uid)}/{index}" if uid else "" for index in range(len(frames))]
    found = [
        SliceInfo(**common, copy=copy, **frame.numbers) for copy, frame in zip(copies, frames, strict=True)
    ]
    # Slices at a simulated dose keep their position along the normal, but not their place in the plane.
    return [replace(info, plane=None) for info in found] if ours else found


def _text(data: Any, keyword: str) -> str:
    """Return an element as text; empty where it is missing or cannot be read."""
    try:
        return str(data.get(keyword) or "")
    # What pydicom raises on a malformed element is not a closed set.
    except Exception:
        return ""
