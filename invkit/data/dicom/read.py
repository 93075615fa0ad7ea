"""CT slices from DICOM files, folders and zip archives, in HU, without anything that names a patient."""

__all__ = [
    "DicomSlice",
    "Gap",
    "Scan",
    "decode",
    "read_dicom_slices",
    "read_header",
    "read_slices",
    "silent",
]

import logging
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, TypeVar

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset, read_partial
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from invkit.data.dicom.archive import FILE_LIMIT, read_members, shown
from invkit.data.dicom.header import Frame, PixelLayout, check_is_ct, frame_headers, pixel_layout
from invkit.data.dicom.pixels import check_decoder, check_length, hounsfield
from invkit.data.dicom.slice import DicomSlice, Gap, Scan, pseudonym
from invkit.errors import ImageError

TOTAL_LIMIT = 2**30
"""Most pixels read from one folder or archive."""

NOT_DICOM = "is not a DICOM file"
KINDS = "a CT slice in DICOM, a folder or zip archive of them, .npy in HU, or .png or .tif with its HU range"

PIXEL_DATA = 0x7FE00010
Read = TypeVar("Read")
StopWhen = Callable[[BaseTag, str | None, int], bool]

# First element of a data set without preamble: group 2 or 8, or 0 (a command set), in either byte order.
FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08", b"\x00\x02")


def read_slices(path: str | Path) -> Scan:
    """Read every CT slice of a file, folder (recursively) or zip archive.

    What is unusable is skipped with its reason, a second copy of a slice too.

    Raises:
        ImageError: there is nothing at `path`, or it holds more than 2**30 pixels.
    """
    slices: list[DicomSlice] = []
    skipped: list[tuple[str, str]] = []
    seen: set[object] = set()
    pixels = 0
    for member in read_members(Path(path)):
        if member.data is None:
            skipped.append((member.name, member.reason))
            continue
        try:
            found = decode(member.data)
        except ImageError as error:
            skipped.append((member.name, str(error)))
            continue
        new = [piece for piece in found if piece.identity() not in seen]
        if not new:
            skipped.append((member.name, "is a copy of a slice that is already there"))
        seen.update(piece.identity() for piece in new)
        slices += new
        pixels += sum(piece.image.size for piece in new)
        if pixels > TOTAL_LIMIT:
            raise ImageError(
                f"{shown(Path(path).name)} holds more than {TOTAL_LIMIT} pixels. Pass one of its sub-folders"
            )
    return Scan(tuple(sorted(slices, key=lambda piece: (piece.series, *piece.order))), tuple(skipped))


def read_dicom_slices(path: str | Path) -> list[DicomSlice]:
    """Return the CT slices of a DICOM file, folder (recursively) or zip archive, by series, then position.

    Raises:
        ImageError: nothing there is a usable CT slice; the message gives the reasons.
    """
    scan = read_slices(path)
    if not scan.slices:
        raise ImageError(_no_slice(Path(path), scan))
    return list(scan.slices)


def decode(content: bytes, *, rescale: tuple[float, float] | None = None) -> list[DicomSlice]:
    """Return the slices, one per frame, of one DICOM file given by its bytes.

    Args:
        content: the bytes.
        rescale: slope and intercept by the user's word, taken where the file lacks them.

    Raises:
        ImageError: not a usable CT image; the message completes "this file ..." and quotes no element but
            modality, transfer syntax and sizes.
    """
    return _guarded(lambda: _decode(content, rescale))


def read_header(
    stream: BinaryIO, size: int, *, rescale: tuple[float, float] | None = None
) -> tuple[Dataset, PixelLayout, list[Frame]]:
    """Return what one DICOM file says of its slices, without reading pixels.

    Args:
        stream: the file, at its beginning.
        size: its length in bytes.
        rescale: as for `decode`.

    Raises:
        ImageError: not a usable CT image by all that its header says, as from `decode`; or cut off.
    """
    return _guarded(lambda: _read_header(stream, size, rescale))


def _guarded(read: Callable[[], Read]) -> Read:
    """Return what `read` returns; raise one typed error, free of the file's content, whatever it raises.

    Raises:
        ImageError: always this.
    """
    # Raised outside of `except`, so that no traceback carries pydicom's own, which can quote elements.
    try:
        with silent():
            return read()
    except ImageError as error:
        reason = str(error)
    except RecursionError:
        reason = "is damaged: its sequences are nested too deep"
    except MemoryError:
        reason = "needs more memory than there is"
    except (EOFError, zlib.error):
        reason = "is cut off or damaged"
    # What pydicom raises on malformed input is not a closed set.
    except Exception as error:
        reason = f"is damaged: pydicom stops with {type(error).__name__}"
    raise ImageError(reason)


def _decode(content: bytes, rescale: tuple[float, float] | None) -> list[DicomSlice]:
    stream = BytesIO(content)
    preamble = _has_preamble(stream)
    if (start := _deflated_from(stream, preamble)) is not None:
        _check_inflated_size(content[start:])
    data = _parse(stream, preamble)
    check_is_ct(data, pixels="PixelData" in data)
    layout = pixel_layout(data)
    series, patient = pseudonym(data.get("SeriesInstanceUID")), pseudonym(data.get("PatientID"))
    headers = list(frame_headers(data, layout.frames, rescale))
    images = hounsfield(data, layout, headers)
    return [
        DicomSlice(image=image, series=series, patient=patient, **header.numbers)
        for image, header in zip(images, headers, strict=True)
    ]


def _read_header(
    stream: BinaryIO, size: int, rescale: tuple[float, float] | None
) -> tuple[Dataset, PixelLayout, list[Frame]]:
    # Where the pixels begin and how many bytes they are said to have; 2**32 - 1 stands for "until marked".
    found: list[tuple[int, int]] = []

    def at_pixels(tag: BaseTag, _: str | None, length: int) -> bool:
        if tag == PIXEL_DATA and not found:
            found.append((stream.tell(), length))
        return bool(tag == PIXEL_DATA)

    preamble = _has_preamble(stream)
    deflated = _deflated_from(stream, preamble)
    if deflated is not None:
        content = stream.read()
        _check_inflated_size(content[deflated:])
        stream = BytesIO(content)
    data = _parse(stream, preamble, at_pixels)
    check_is_ct(data, pixels=bool(found))
    layout = pixel_layout(data)
    frames = list(frame_headers(data, layout.frames, rescale))
    decoder, _, _ = check_decoder(data)
    if decoder.is_native:
        start, length = found[0]
        check_length(length, layout)
        if deflated is None and start + length > size:
            raise ImageError("is truncated: pixel data are missing")
    return data, layout, frames


def _has_preamble(stream: BinaryIO) -> bool:
    """Return whether a file begins as DICOM files do; refuse one that cannot be DICOM. The stream is rewound."""
    head = stream.read(132)
    stream.seek(0)
    if head[128:] != b"DICM" and head[:2] not in FIRST_GROUPS:
        raise ImageError(NOT_DICOM)
    return head[128:] == b"DICM"


def _parse(stream: BinaryIO, preamble: bool, stop: StopWhen | None = None) -> Dataset:
    """Read a data set to its end or to where `stop` says; state its transfer syntax where it does not."""
    try:
        data = read_partial(stream, stop, force=True)
    except Exception:
        if preamble:
            raise
        raise ImageError(NOT_DICOM) from None
    if not preamble and not ("Modality" in data and "Rows" in data):
        raise ImageError(NOT_DICOM)
    if not data.file_meta.get("TransferSyntaxUID"):
        if "PixelData" in data and data["PixelData"].is_undefined_length:
            raise ImageError("states no transfer syntax, so its compressed pixels cannot be decoded")
        # pydicom has found out how the elements are encoded; native pixels follow them.
        implicit, little = data.original_encoding
        syntax = (
            ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        )
        data.file_meta.TransferSyntaxUID = syntax
    return data


def _deflated_from(stream: BinaryIO, preamble: bool) -> int | None:
    """Return where the deflated data set of a file begins, None if it has none. The stream is rewound."""
    stream.seek(132 if preamble else 0)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, *_: tag.group != 2)
    start = stream.tell()
    stream.seek(0)
    deflated = UID(str(meta.get("TransferSyntaxUID") or "")) == DeflatedExplicitVRLittleEndian
    return start if deflated else None


def _check_inflated_size(part: bytes) -> None:
    """Refuse a deflated data set that grows beyond the limit, before pydicom inflates it without one."""
    inflater, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while part and not inflater.eof:
        size += len(inflater.decompress(part, 2**20))
        part = inflater.unconsumed_tail
        if size > FILE_LIMIT:
            raise ImageError(f"inflates to more than {FILE_LIMIT} bytes")


def _no_slice(path: Path, scan: Scan) -> str:
    """Return why nothing was read: the reason for a single file, else the commonest reasons."""
    name = shown(path.name or path)
    if path.is_file() and len(scan.skipped) == 1 and scan.skipped[0][0] == name:
        hint = f". Give {KINDS}" if scan.skipped[0][1] == NOT_DICOM else ""
        return f"{name} {scan.skipped[0][1]}{hint}"
    if not scan.skipped:
        return f"{name} holds no file. Give {KINDS}"
    counts = Counter(reason for _, reason in scan.skipped)
    listed = "; ".join(f"{count} x: {reason}" for reason, count in counts.most_common(3))
    return f"{name} holds no usable CT slice among {len(scan.skipped)} files ({listed})"


@contextmanager
def silent() -> Iterator[None]:
    """Keep pydicom's warnings and log messages, which quote elements of the data set, from coming out."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
