"""Stored pixels of a CT data set in Hounsfield units."""

__all__ = ["AIR", "HU_RANGE", "check_decoder", "check_length", "hounsfield"]

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels import apply_modality_lut, get_decoder
from pydicom.pixels.decoders.base import Decoder
from pydicom.uid import (
    JPEG2000,
    UID,
    JPEG2000Lossless,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    RLELossless,
)

from invkit.data.dicom.header import Frame, PixelLayout
from invkit.errors import ImageError
from invkit.statistics.intervals import number

AIR = -1024.0
"""What padding and everything below it becomes, HU."""

HU_RANGE = (-4096.0, 65535.0)
"""Values outside cannot be CT, HU."""

# Typed loosely, because pydicom annotates each of these keywords as if it were all of them.
DECODING: dict[str, Any] = {"correct_unused_bits": False, "allow_excess_frames": True}

# On damaged data pylibjpeg-rle stops with a panic of Rust, which is no Exception, and OpenJPEG within gdcm and pylibjpeg
# writes to the terminal; these do neither, and are there without any extra.
SILENT = {RLELossless: "pydicom", JPEG2000: "pillow", JPEG2000Lossless: "pillow"}

END_OF_IMAGE = b"\xff\xd9"
EXTRA = "pip install 'invkit[dicom]'"


def hounsfield(data: Dataset, layout: PixelLayout, frames: Iterable[Frame]) -> Iterator[NDArray[np.float32]]:
    """Yield each frame in HU, shape `(H, W)`, float32, padding and all below -1024 HU as -1024 HU.

    Padding (DICOM PS3.3 C.7.5.1.1.2) is found before the unused bits are masked, because some scanners mark
    it with a value that does not fit into Bits Stored.

    Raises:
        ImageError: the pixels cannot be decoded, do not fit the stated size, or are not HU of a CT.
    """
    for stored, frame in zip(_stored_frames(data, layout), frames, strict=True):
        padding = _padding(stored, layout)
        if padding.all():
            raise ImageError("contains nothing but padding")
        values = _without_unused_bits(data, stored, layout, padding)
        if frame.rescale is None:
            image = apply_modality_lut(values, _with_hu_table(data)).astype(np.float64)
        else:
            slope, intercept = frame.rescale
            image = values.astype(np.float64) * slope + intercept
        image[padding] = AIR
        low, high = float(image.min()), float(image.max())
        if not (HU_RANGE[0] <= low and high <= HU_RANGE[1]):
            raise ImageError(
                f"has values outside {HU_RANGE[0]:.0f} to {HU_RANGE[1]:.0f} HU ({number(low)} to {number(high)}): "
                "its rescale, sign or pixels are wrong"
            )
        yield np.maximum(image, AIR).astype(np.float32)


def _stored_frames(data: Dataset, layout: PixelLayout) -> NDArray[Any]:
    """Return the stored pixels of all frames, shape `(B, H, W)`, with their unused bits as they are."""
    decoder, syntax, name = check_decoder(data)
    if decoder.is_native:
        check_length(len(data.PixelData), layout)
    elif syntax != RLELossless:
        _check_ends(data, layout)
    plugin = SILENT.get(syntax, "")
    if plugin not in decoder.available_plugins:
        plugin = ""  # all there are, one after the other
    try:
        stored, _ = decoder.as_array(data, raw=True, decoding_plugin=plugin, **DECODING)
    except RuntimeError:
        # pydicom tried every decoder it has.
        hint = "" if decoder.is_native else f", or another decoder is needed: {EXTRA}"
        raise ImageError(f"cannot be decoded ({name}): the pixel data are damaged{hint}") from None
    wanted = (layout.frames, layout.rows, layout.cols)
    shape = stored.shape if layout.frames > 1 else (1, *stored.shape)
    if shape != wanted:
        raise ImageError(f"decodes to shape {shape}, its header says {wanted}")
    return stored.reshape(wanted)


def check_decoder(data: Dataset) -> tuple[Decoder, UID, str]:
    """Return what decodes the pixels of a data set, its transfer syntax, and that one's name.

    Raises:
        ImageError: nothing installed here can decode them.
    """
    syntax = UID(str(data.file_meta.TransferSyntaxUID))
    name = syntax.name if syntax.name != syntax else "unknown"
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:  # pydicom's answer where it knows no such syntax
        raise ImageError(f"has transfer syntax {name}, which is not supported") from None
    if not decoder.is_native and not decoder.is_available:
        raise ImageError(f"is compressed ({name}). To read it: {EXTRA}")
    return decoder, syntax, name


def _check_ends(data: Dataset, layout: PixelLayout) -> None:
    """Refuse a code stream (JPEG, JPEG-LS, JPEG 2000) without its end marker, for which decoders make pixels up."""
    for frame in generate_frames(data.PixelData, number_of_frames=layout.frames):
        if not frame.rstrip(b"\0").endswith(END_OF_IMAGE):
            raise ImageError("is truncated: its compressed pixel data end early")


def check_length(length: int, layout: PixelLayout) -> None:
    """Refuse native pixels of another size than the header states; up to a row of filling is let through.

    Raises:
        ImageError: they are too few or too many bytes.
    """
    row = layout.cols * layout.bits_allocated // 8
    wanted = row * layout.rows * layout.frames
    if not wanted <= length < wanted + max(row, 2):
        raise ImageError(
            f"has {length} bytes of pixel data where {layout.frames} frames of {layout.rows} x {layout.cols} "
            f"pixels need {wanted}: it is truncated, or its header is wrong"
        )


def _padding(stored: NDArray[Any], layout: PixelLayout) -> NDArray[np.bool_]:
    """Return where the stored value is padding; a marker of the other sign is compared modulo the word."""
    if layout.padding is None:
        return np.zeros(stored.shape, dtype=bool)
    values = stored.astype(np.int64)
    first, last = layout.padding
    info = np.iinfo(stored.dtype)
    span = 1 << layout.bits_allocated
    if first == last and not info.min <= first <= info.max:
        first = last = (first - info.min) % span + info.min
    return (values >= first) & (values <= last)


def _without_unused_bits(
    data: Dataset, stored: NDArray[Any], layout: PixelLayout, padding: NDArray[np.bool_]
) -> NDArray[Any]:
    """Return the values of Bits Stored bits; the others are undefined (DICOM PS3.5 8.1.1) and dropped."""
    word = layout.bits_allocated
    bits = layout.bits_stored
    values = stored[~padding].astype(np.int64) % (1 << word)
    if not layout.signed and values.size:
        quarter = 1 << (bits - 2) if bits >= 2 else 1
        # Negative numbers under an unsigned header: their unused bits are all ones, or, where there are none,
        # the values crowd at both ends of the range, as no CT does.
        if word > bits and bool(((values >> (bits - 1)) == (1 << (word - bits + 1)) - 1).any()):
            raise ImageError("has negative pixels although its Pixel Representation says unsigned")
        low, high = values < quarter, values >= 3 * quarter
        if word == bits >= 16 and bool((low | high).all() and low.any() and high.any()):
            raise ImageError("has negative pixels although its Pixel Representation says unsigned")
    syntax = UID(str(data.file_meta.TransferSyntaxUID))
    # These code streams state their own precision, which pydicom has followed.
    if word == bits or syntax in JPEG2000TransferSyntaxes or syntax in JPEGLSTransferSyntaxes:
        return stored
    kept = stored.copy()
    np.left_shift(kept, word - bits, out=kept)
    np.right_shift(kept, word - bits, out=kept)
    return kept


def _with_hu_table(data: Dataset) -> Dataset:
    table = data.ModalityLUTSequence[0]
    if "RescaleSlope" in data or "RescaleIntercept" in data:
        raise ImageError("has a Modality LUT and a rescale, so its HU are ambiguous")
    if str(table.get("ModalityLUTType") or "").strip() != "HU":
        raise ImageError("has a Modality LUT that does not lead to HU")
    return data
