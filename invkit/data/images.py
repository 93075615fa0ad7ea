"""Any CT image that a user may hand over, as a tensor in HU."""

__all__ = [
    "DicomSlice",
    "Scan",
    "as_image",
    "default_image",
    "default_scan",
    "read_dicom_slices",
    "read_image",
    "read_scan",
]

import math
import warnings
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from invkit.data.dicom.archive import FILE_LIMIT, shown
from invkit.data.dicom.header import PIXEL_LIMIT
from invkit.data.dicom.pixels import HU_RANGE
from invkit.data.dicom.read import DicomSlice, decode, read_dicom_slices
from invkit.errors import ImageError
from invkit.statistics.intervals import number

NPY_MAGIC = b"\x93NUMPY"
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
SUFFIXES = {".npy": "npy", ".png": "raster", ".tif": "raster", ".tiff": "raster"}
WHITE_IS_ZERO = 0
CHANNELS = (3, 4)  # RGB, RGBA
SQUARE = 1e-3  # sides of a pixel that differ by no more are one size
PHOTOMETRIC_TAG = 262


class Scan(NamedTuple):
    """Images, and how large their pixels are.

    Attributes:
        image: shape `(B, 1, H, W)`, float32, HU.
        spacing: distance of the pixels' centres, mm, where the files state one for rows and columns of all slices, else None.
        origin: where they are from, for people.
    """

    image: Tensor
    spacing: float | None
    origin: str = "read from a file"


def read_image(path: str | Path, *, hu_range: tuple[float, float] | None = None) -> Tensor:
    """Read one CT image or one series.

    The format is determined from the content. DICOM files, also in folders and zip archives, yield
    slices sorted by position, converted to HU by their own rescale, with padding set to -1024. A `.npy` file holds HU in
    shape `(H, W)`, `(B, H, W)` or `(B, 1, H, W)`. PNG and TIFF images are greyscale with 8 or 16 bits and need
    `hu_range`; a floating-point TIFF holds HU.

    Args:
        path: where the image is.
        hu_range: HU of the value 0 and of the largest value of the file's integer type; for PNG and TIFF.

    Returns:
        Shape `(B, 1, H, W)`, float32, HU.

    Raises:
        ImageError: it is no path, or holds no usable CT image, several series, or slices of differing size; the
            message gives the base name of the file and quotes none of its content.
    """
    return read_scan(path, hu_range=hu_range).image


def read_scan(path: str | Path, *, hu_range: tuple[float, float] | None = None) -> Scan:
    """Read what `read_image` does, with the size of the pixels; only DICOM states one."""
    if not isinstance(path, str | Path):
        raise ImageError(
            "a path to a DICOM file, folder or zip, or to a .npy, .png or .tiff file must be given as str or Path, "
            f"got {type(path).__name__}; arrays and tensors in HU need no reading"
        )
    path = Path(path)
    kind = _kind(path)
    if kind == "npy":
        return Scan(_named(path, _read_npy(path)), None)
    if kind == "raster":
        return Scan(_named(path, _read_raster(path, hu_range)), None)
    found = _stack(read_dicom_slices(path), shown(path.name or path))
    return found if path.is_file() else found._replace(origin="read from a folder")


def as_image(data: NDArray[Any] | Tensor) -> Tensor:
    """Return an array or tensor in HU as an image.

    Args:
        data: shape `(H, W)`, `(B, H, W)` or `(B, 1, H, W)`, any real type, HU.

    Returns:
        A copy of shape `(B, 1, H, W)`, float32, HU, on the device of `data`.

    Raises:
        ImageError: another shape, empty, too large, not numbers, not finite, or beyond what CT can be in HU.
    """
    if isinstance(data, Tensor):
        if data.dtype == torch.bool or data.is_complex():
            raise ImageError(f"an image must hold real numbers in HU, got {data.dtype}")
        image = data.detach().to(torch.float32, copy=True)
    elif isinstance(data, np.ndarray):
        if data.dtype.kind not in "iuf":
            raise ImageError(f"an image must hold real numbers in HU, got dtype {data.dtype.name}")
        # Values beyond float32 become infinite here and are refused below.
        with np.errstate(over="ignore"):
            image = torch.from_numpy(np.array(data, dtype=np.float32, order="C"))
    else:
        raise ImageError(f"an image must be a numpy array or a torch tensor in HU, got {type(data).__name__}")
    shape = tuple(image.shape)
    if (image.ndim == 3 or (image.ndim == 4 and shape[1] != 1)) and shape[-1] in CHANNELS:
        raise ImageError(
            f"an image of shape {shape} seems to be in colour: its last axis has {shape[-1]} entries. "
            "Give one channel in HU, of shape (H, W), (B, H, W) or (B, 1, H, W)"
        )
    if image.ndim == 2:
        image = image[None, None]
    elif image.ndim == 3:
        image = image[:, None]
    if image.ndim != 4 or image.shape[1] != 1:
        raise ImageError(f"an image must have shape (H, W), (B, H, W) or (B, 1, H, W), got {shape}")
    if image.numel() == 0 or image.numel() > PIXEL_LIMIT:
        raise ImageError(f"an image must have 1 to {PIXEL_LIMIT} pixels, got shape {shape}")
    low, high = (float(value) for value in image.aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ImageError("the image contains values that are not finite (NaN or infinite)")
    if low < HU_RANGE[0] or high > HU_RANGE[1]:
        raise ImageError(
            f"the image contains values outside {HU_RANGE[0]:.0f} to {HU_RANGE[1]:.0f} HU "
            f"({number(low)} to {number(high)}). Give it in HU: air -1000, water 0"
        )
    return image


def default_image() -> Tensor:
    """Return the CT slice that ships inside pydicom: full dose, shape `(1, 1, 128, 128)`, float32, HU.

    It is read from the installed package; nothing is downloaded.

    Raises:
        ImageError: this installation of pydicom lacks its test files.
    """
    return default_scan().image


def default_scan() -> Scan:
    """Return `default_image` with the size of its pixels."""
    file = resources.files("pydicom") / "data" / "test_files" / "CT_small.dcm"
    try:
        content = file.read_bytes()
    except OSError:
        raise ImageError(
            "pydicom is installed without CT_small.dcm. Reinstall it, or pass an image"
        ) from None
    return _stack(decode(content), "CT_small.dcm")


def _kind(path: Path) -> str:
    """Return "npy", "raster" or "dicom" (which folders and archives are too)."""
    try:
        if not path.is_file():
            return "dicom"
        with path.open("rb") as stream:
            head = stream.read(132)
    except OSError as error:
        raise ImageError(
            f"cannot read {shown(path.name)}: {error.strerror or type(error).__name__}"
        ) from None
    if head[128:] == b"DICM":
        return "dicom"
    if head.startswith(NPY_MAGIC):
        return "npy"
    if head.startswith((PNG_MAGIC, *TIFF_MAGIC)):
        return "raster"
    return SUFFIXES.get(path.suffix.lower(), "dicom")


def _named(path: Path, data: NDArray[Any]) -> Tensor:
    try:
        return as_image(data)
    except ImageError as error:
        raise ImageError(f"{shown(path.name)}: {error}") from None


def _content(path: Path) -> bytes:
    name = shown(path.name)
    try:
        size = path.stat().st_size
        if size > FILE_LIMIT:
            raise ImageError(f"{name} has {size} bytes, the limit is {FILE_LIMIT}")
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot read {name}: {error.strerror or type(error).__name__}") from None


def _read_npy(path: Path) -> NDArray[Any]:
    content, name = _content(path), shown(path.name)
    stream = BytesIO(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            version = np.lib.format.read_magic(stream)
            read = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, fortran, dtype = read(stream)
            fits = len(content) - stream.tell() == math.prod(shape) * dtype.itemsize
    # A damaged header is parsed as a Python literal and fails in many ways.
    except Exception:
        raise ImageError(f"{name} is not a usable .npy file: its header is damaged") from None
    if dtype.hasobject:
        raise ImageError(
            f"{name} holds Python objects, which could run code; save it as an array of numbers in HU"
        )
    if not fits:
        raise ImageError(f"{name} is truncated or damaged: its size does not match shape {shape}")
    values = np.frombuffer(content, dtype=dtype, offset=stream.tell())
    return values.reshape(shape, order="F" if fortran else "C")


def _read_raster(path: Path, hu_range: tuple[float, float] | None) -> NDArray[Any]:
    content, name = _content(path), shown(path.name)
    reason = "is damaged"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(BytesIO(content), formats=("PNG", "TIFF")) as image:
                frames, largest = _pages(image)
    except ImageError as error:
        reason = str(error)
    except Image.DecompressionBombError:
        reason = "has too many pixels"
    # Pillow's readers raise nearly anything on a damaged file.
    except Exception as error:
        reason = f"is damaged: its reader fails with {type(error).__name__}"
    else:
        return _to_hu(frames, largest, hu_range, name)
    raise ImageError(f"{name} {reason}")


def _pages(image: Image.Image) -> tuple[NDArray[Any], int | None]:
    """Return all pages, shape `(B, H, W)`, and the largest value of their integer type, None for floats."""
    count = int(getattr(image, "n_frames", 1))
    if count * image.width * image.height > PIXEL_LIMIT:
        raise ImageError(f"is too large: {image.height} x {image.width}, {count} pages")
    pages = []
    for index in range(count):
        image.seek(index)
        if image.mode not in ("L", "F") and not image.mode.startswith("I;16"):
            raise ImageError("is neither an 8- or 16-bit greyscale image nor a floating-point TIFF")
        tags = getattr(image, "tag_v2", {})
        if tags.get(PHOTOMETRIC_TAG) == WHITE_IS_ZERO:
            raise ImageError("stores white as 0, so its HU values are ambiguous; save it with black as 0")
        pages.append(np.asarray(image))
        if pages[-1].shape != pages[0].shape or pages[-1].dtype != pages[0].dtype:
            raise ImageError("has pages of differing size or type")
    values = np.stack(pages)
    return values, None if values.dtype.kind == "f" else int(np.iinfo(values.dtype).max)


def _to_hu(
    values: NDArray[Any], largest: int | None, hu_range: tuple[float, float] | None, name: str
) -> NDArray[Any]:
    if largest is None:
        if hu_range is not None:
            raise ImageError(f"{name} holds floating-point values, which are taken as HU. Omit the HU range")
        return values
    if hu_range is None:
        raise ImageError(
            f"{name} holds grey values from 0 to {largest}, not HU. Give the HU of 0 and of {largest}: "
            "--hu-range -1024,3071"
        )
    try:
        low, high = (float(end) for end in hu_range)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ImageError("an HU range must be two numbers, the lower one first, such as -1024,3071")
    return low + values.astype(np.float64) * ((high - low) / largest)


def _stack(slices: list[DicomSlice], name: str) -> Scan:
    groups: dict[str, list[DicomSlice]] = {}
    for piece in slices:
        groups.setdefault(piece.series, []).append(piece)
    if len(groups) > 1:
        listed = ", ".join(f"{series} ({len(group)} slices)" for series, group in list(groups.items())[:10])
        more = ", ..." if len(groups) > 10 else ""
        raise ImageError(
            f"{name} holds {len(groups)} series: {listed}{more}. "
            "Pass the sub-folder or the file of the one you want"
        )
    sizes = sorted({piece.image.shape for piece in slices})
    if len(sizes) > 1:
        listed = ", ".join(f"{rows} x {cols}" for rows, cols in sizes[:5])
        raise ImageError(f"{name} holds slices of differing size: {listed}. Pass a single file")
    ordered = sorted(slices, key=lambda piece: piece.order)
    stated = {piece.spacing for piece in slices}
    (sides,) = stated if len(stated) == 1 else (None,)
    square = sides is not None and math.isclose(*sides, rel_tol=SQUARE)
    image = torch.from_numpy(np.stack([piece.image for piece in ordered])[:, None])
    return Scan(image, sides[0] if sides is not None and square else None)
