"""Elements of a CT data set that say what its pixels mean, read so that a wrong one is None or one error."""

__all__ = ["Frame", "PixelLayout", "check_is_ct", "frame_headers", "pixel_layout"]

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import UID

from invkit.data.dicom.slice import pseudonym
from invkit.errors import ImageError

PIXEL_LIMIT = 2**28
"""Most pixels of one file, all frames together."""

CT_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.2": "CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.2.1": "Enhanced CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.2.2": "Legacy Converted Enhanced CT Image Storage",
}
# Modality is free text to a reader, so that only these may stand in a message.
MODALITIES = frozenset(
    "AR ASMT AU BDUS BI BMD CFM CR CT CTPROTOCOL DG DMS DOC DX ECG EEG EMG EOG EPS ES FID GM HC HD IO IOL "  # noqa: SIM905 - a list takes 80 lines
    "IVOCT IVUS KER KO LEN LS M3D MG MR NM OAM OCT OP OPM OPR OPT OPTBSV OPTENF OPV OSS OT PA PLAN POS PR PT "
    "PX REG RESP RF RG RTDOSE RTIMAGE RTINTENT RTPLAN RTRAD RTRECORD RTSEGANN RTSTRUCT RWV SEG SM SMR SR SRF "
    "STAIN TEXTUREMAP TG US VA XA XC".split()
)
KERNEL = re.compile(
    r"[A-Z]{1,2}|[A-Z][a-z]?\d{2}[a-z]{0,3}|FC\d{2}|STANDARD|STND|SOFT|DETAIL|LUNG|CHEST|BONE|BONEPLUS|EDGE|ULTRA"
)
# Groups in which DICOM-CT-PD keeps the geometry of projections; its files look like CT slices otherwise.
PROJECTION_GROUPS = frozenset({0x7029, 0x7031, 0x7033})
SPACING_RANGE = (1e-3, 100.0)


@dataclass(frozen=True)
class PixelLayout:
    """How pixels are stored: size, number of frames, bits, sign, and the stored values that mark padding."""

    rows: int
    cols: int
    frames: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    padding: tuple[int, int] | None


@dataclass(frozen=True)
class Frame:
    """One frame's rescale (None where the file has a Modality LUT) and its place, size and exposure."""

    rescale: tuple[float, float] | None
    numbers: dict[str, Any]


def check_is_ct(data: Dataset, *, pixels: bool) -> None:
    """Refuse a data set that is no CT slice.

    Args:
        data: the data set.
        pixels: whether the file has pixel data.

    Raises:
        ImageError: of another modality or storage class, a localizer, projections, or without pixels.
    """
    modality = str(data.get("Modality") or "").strip()
    if modality != "CT":
        if not modality:
            raise ImageError("states no modality, so it is not known to be CT")
        raise ImageError(f"is of modality {modality if modality in MODALITIES else 'unknown'}, not CT")
    kind = UID(str(data.get("SOPClassUID") or ""))
    if kind and kind not in CT_CLASSES:
        raise ImageError(
            f"is not a CT slice but {kind.name if kind.name != kind else 'of an unknown storage class'}"
        )
    if _words(data.get("ImageType")) & {"LOCALIZER", "SCOUT"}:
        raise ImageError("is a localizer, not a slice")
    if any(tag.group in PROJECTION_GROUPS for tag in data.keys()):  # noqa: SIM118 - iterating would parse every element
        raise ImageError("holds projections, not a slice")
    if not pixels:
        raise ImageError("has no pixel data")


def pixel_layout(data: Dataset) -> PixelLayout:
    """Read and check how the pixels are stored.

    Raises:
        ImageError: an element is missing or impossible, the image is not grey, or larger than the limit.
    """
    photometric = str(data.get("PhotometricInterpretation") or "").strip()
    # MONOCHROME1 says how to show the pixels, not what they measure: the rescale to HU is the same.
    if (
        photometric not in ("MONOCHROME1", "MONOCHROME2")
        or _whole(data, "SamplesPerPixel", "Samples per Pixel") != 1
    ):
        raise ImageError(
            "is not a greyscale image in MONOCHROME2 (but colour or palette), so it contains no HU"
        )
    rows, cols = _whole(data, "Rows", "Rows"), _whole(data, "Columns", "Columns")
    frames = (
        _whole(data, "NumberOfFrames", "Number of Frames") if data.get("NumberOfFrames") is not None else 1
    )
    if rows < 1 or cols < 1 or frames < 1:
        raise ImageError(f"states an impossible size: {rows} x {cols}, {frames} frames")
    if rows * cols * frames > PIXEL_LIMIT:
        raise ImageError(f"is too large: {rows} x {cols}, {frames} frames; the limit is {PIXEL_LIMIT} pixels")
    allocated = _whole(data, "BitsAllocated", "Bits Allocated")
    stored = _whole(data, "BitsStored", "Bits Stored")
    if allocated not in (8, 16, 32) or not 1 <= stored <= allocated:
        raise ImageError(f"has {stored} of {allocated} bits per pixel; 8, 16 and 32 are supported")
    if data.get("HighBit") is not None and _whole(data, "HighBit", "High Bit") != stored - 1:
        raise ImageError("has a High Bit that is not Bits Stored - 1")
    sign = _whole(data, "PixelRepresentation", "Pixel Representation")
    if sign not in (0, 1):
        raise ImageError("has an impossible Pixel Representation")
    padding = _number(data, "PixelPaddingValue")
    limit = _number(data, "PixelPaddingRangeLimit")
    ends = None if padding is None else sorted((int(padding), int(padding if limit is None else limit)))
    return PixelLayout(
        rows, cols, frames, allocated, stored, sign == 1, None if ends is None else (ends[0], ends[1])
    )


def frame_headers(data: Dataset, frames: int, stated: tuple[float, float] | None = None) -> Iterator[Frame]:
    """Yield the rescale and the numbers of each frame, from its functional groups where the file has them.

    Args:
        data: the data set.
        frames: how many frames its header promises.
        stated: slope and intercept by the user's word, for elements that the file lacks.

    Raises:
        ImageError: a rescale is missing, zero, not finite or not to HU; there are not as many groups as
            frames; a frame is a localizer; a pixel spacing is impossible.
    """
    shared = _items(data, "SharedFunctionalGroupsSequence")
    own = _items(data, "PerFrameFunctionalGroupsSequence")
    if own and len(own) != frames:
        raise ImageError(f"has {frames} frames but {len(own)} per-frame groups")
    table = bool(_items(data, "ModalityLUTSequence"))
    for index in range(frames):
        parts = [*(group for part in (own[index : index + 1], shared[:1]) for group in part), data]
        for kind in _groups(parts, "CTImageFrameTypeSequence"):
            if "LOCALIZER" in _words(kind.get("FrameType")):
                raise ImageError("is a localizer, not a slice")
        numbers = {**_geometry(parts), **_exposure(parts), "frame": index}
        yield Frame(None if table else _rescale(parts, stated), numbers)


def _rescale(parts: Sequence[Dataset], stated: tuple[float, float] | None) -> tuple[float, float]:
    """Return slope and intercept of the innermost group that states one, or else those the user states."""
    for group in _groups(parts, "PixelValueTransformationSequence"):
        if "RescaleSlope" in group or "RescaleIntercept" in group:
            break
    else:
        if stated is not None:
            return stated
        raise ImageError(
            "states no Rescale Slope and Intercept, so its HU are unknown; invkit does not guess them"
        )
    slope, intercept = _number(group, "RescaleSlope"), _number(group, "RescaleIntercept")
    if stated is not None:
        # One that is there but cannot be read is damage, of which the user said nothing.
        slope = slope if "RescaleSlope" in group else stated[0]
        intercept = intercept if "RescaleIntercept" in group else stated[1]
    if slope is None or intercept is None:
        missing = "Slope" if slope is None else "Intercept"
        raise ImageError(
            f"states no usable Rescale {missing}, so its HU are unknown; invkit does not guess them"
        )
    if slope == 0:
        raise ImageError("has Rescale Slope 0, so its HU are lost")
    unit = str(group.get("RescaleType") or "HU").strip()
    if unit not in ("HU", ""):
        raise ImageError("is not in HU: its Rescale Type states another unit")
    return slope, intercept


def _geometry(parts: Sequence[Dataset]) -> dict[str, Any]:
    spacing = _vector(_groups(parts, "PixelMeasuresSequence"), "PixelSpacing", 2)
    low, high = SPACING_RANGE
    if spacing is not None and not all(low <= value <= high for value in spacing):
        raise ImageError("has an impossible Pixel Spacing")
    thickness = _first(_groups(parts, "PixelMeasuresSequence"), "SliceThickness")
    corner = _vector(_groups(parts, "PlanePositionSequence"), "ImagePositionPatient", 3)
    axes = _vector(_groups(parts, "PlaneOrientationSequence"), "ImageOrientationPatient", 6)
    position, plane = _first(parts, "SliceLocation"), None
    if corner is not None and axes is not None:
        normal = np.cross(axes[:3], axes[3:])
        # Both directions of the normal occur. Taken towards the head, axial slices have their z.
        length = math.copysign(float(np.linalg.norm(normal)), normal[np.argmax(np.abs(normal))])
        if 0.5 < abs(length) < 2:
            position = float(np.dot(normal, corner)) / length
            plane = (*axes, float(np.dot(axes[:3], corner)), float(np.dot(axes[3:], corner)))
    instance = _first(parts, "InstanceNumber")
    return {
        "spacing": None if spacing is None else (spacing[0], spacing[1]),
        "thickness": thickness if thickness is not None and thickness > 0 else None,
        "position": position,
        "plane": plane,
        "instance": None if instance is None else int(instance),
    }


def _exposure(parts: Sequence[Dataset]) -> dict[str, Any]:
    groups = _groups(parts, "CTExposureSequence")
    kernel = None
    for group in _groups(parts, "CTReconstructionSequence"):
        value = group.get("ConvolutionKernel")
        value = value if value is None or isinstance(value, str) else next(iter(value), None)
        if kernel is None and value:
            kernel = str(value).strip()
    if kernel and not KERNEL.fullmatch(kernel):
        kernel = f"kernel-{pseudonym(kernel)}"
    return {
        "kernel": kernel or None,
        "kvp": _first(_groups(parts, "CTXRayDetailsSequence"), "KVP"),
        "tube_current": _first(groups, "XRayTubeCurrentInmA", "XRayTubeCurrent"),
        "exposure": _first(groups, "ExposureInmAs", "Exposure"),
        "ctdi_vol": _first(groups, "CTDIvol"),
    }


def _groups(parts: Sequence[Dataset], keyword: str) -> list[Dataset]:
    """Return the groups of this kind, innermost first, and at last the data set itself."""
    return [*(item for part in parts[:-1] for item in _items(part, keyword)[:1]), parts[-1]]


def _items(data: Dataset, keyword: str) -> list[Dataset]:
    value = data.get(keyword)
    return [item for item in value if isinstance(item, Dataset)] if isinstance(value, Sequence) else []


def _words(value: object) -> set[str]:
    values = value.split("\\") if isinstance(value, str) else value if isinstance(value, Sequence) else ()
    return {str(word).strip().upper() for word in values}


def _whole(data: Dataset, keyword: str, title: str) -> int:
    value = _number(data, keyword)
    if value is None:
        raise ImageError(f"states no usable {title}")
    return int(value)


def _first(parts: Sequence[Dataset], *keywords: str) -> float | None:
    found = (_number(part, keyword) for part in parts for keyword in keywords)
    return next((value for value in found if value is not None), None)


def _number(data: Dataset, keyword: str) -> float | None:
    """Return a finite number, or None where the element is missing, empty, text or has several values."""
    try:
        value = data.get(keyword)
        number = None if value is None else float(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return number if number is not None and math.isfinite(number) else None


def _vector(parts: Sequence[Dataset], keyword: str, size: int) -> list[float] | None:
    """Return the first vector of this name with `size` finite numbers."""
    for part in parts:
        value = part.get(keyword)
        if value is None or isinstance(value, str) or not isinstance(value, Sequence) or len(value) != size:
            continue
        numbers = [float(number) for number in value]
        if all(math.isfinite(number) for number in numbers):
            return numbers
    return None
