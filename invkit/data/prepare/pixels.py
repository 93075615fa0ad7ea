"""Pixels of slices that a scan found."""

__all__ = ["anatomy_difference", "read_pixels"]

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from invkit.data.dicom.archive import FILE_LIMIT
from invkit.data.dicom.read import decode
from invkit.data.prepare.arrays import is_array, read_arrays
from invkit.errors import ImageError

BLOCK = 8  # pixels
BODY = -500.0  # HU


def read_pixels(
    path: Path, frames: Sequence[int], *, rescale: tuple[float, float] | None = None
) -> tuple[list[NDArray[np.float32]], str]:
    """Return images of one file, each `(H, W)`, float32, HU, nothing below -1024; and the sha256 of the file.

    Args:
        path: a DICOM, `.npy` or NIfTI file.
        frames: which of its images.
        rescale: slope and intercept by the user's word, taken where a DICOM file lacks them.

    Raises:
        ImageError: it cannot be read, or is not what the scan saw; the message completes "this file ...".
    """
    try:
        if is_array(path):
            with path.open("rb") as stream:
                sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
            return read_arrays(path, frames), sha256
        size = path.stat().st_size
        if size > FILE_LIMIT:
            raise ImageError(f"has {size} bytes, the limit is {FILE_LIMIT}")
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot be read ({error.strerror or type(error).__name__})") from None
    images = [piece.image for piece in decode(content, rescale=rescale)]
    if max(frames) >= len(images):
        raise ImageError("has fewer frames than its header said before")
    return [images[frame] for frame in frames], hashlib.sha256(content).hexdigest()


def anatomy_difference(full: NDArray[np.float32], low: NDArray[np.float32]) -> float:
    """Return how far two slices differ once their noise is averaged away, HU.

    It is the root mean square of the differences of means over 8 x 8 pixels, inside the body.

    Args:
        full: a slice, `(H, W)`, HU; at least 8 x 8 pixels.
        low: another one of the same size.
    """
    one, other = _means(full), _means(low)
    body = (one > BODY) | (other > BODY)
    squares = (one - other)[body] ** 2 if body.any() else (one - other) ** 2
    return float(np.sqrt(squares.mean()))


def _means(image: NDArray[np.float32]) -> NDArray[np.float64]:
    rows, cols = image.shape[0] // BLOCK, image.shape[1] // BLOCK
    blocks = image[: rows * BLOCK, : cols * BLOCK].reshape(rows, BLOCK, cols, BLOCK)
    means: NDArray[np.float64] = blocks.mean(axis=(1, 3), dtype=np.float64)
    return means
