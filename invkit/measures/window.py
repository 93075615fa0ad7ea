"""The part of a large image that is measured."""

__all__ = ["MARGIN", "SIDE", "Window", "choose_window"]

import math
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from invkit.images.region import Region
from invkit.images.tissue import TISSUES, Tissue

SIDE = 128  # pixels: of larger images a window is measured
MARGIN = 32  # pixels of the image around it that its layers see, and that stay as they are


@dataclass(frozen=True)
class Window:
    """The part of an image that is measured, as a separate image.

    Args:
        rows: of the image.
        columns: of the image.
        whole: whether it is all of the image.
    """

    rows: slice
    columns: slice
    whole: bool

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns, pixels."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    def crop(self, images: Tensor) -> Tensor:
        """Return it of images `(..., H, W)`."""
        return images[..., self.rows, self.columns]

    def within(self, size: tuple[int, int], step: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Return where the window lies in what is cut out around it, and where that lies in the image.

        Args:
            size: of the image, `(H, W)`.
            step: pixels, that corners and sides of what is cut out are multiples of, where the image allows.
        """
        inner, around = [], []
        for part, length in zip((self.rows, self.columns), size, strict=True):
            start = max(0, part.start - MARGIN) // step * step
            stop = min(length, start + step * math.ceil((part.stop + MARGIN - start) / step))
            around.append(slice(start, stop))
            inner.append(slice(part.start - start, part.stop - start))
        return (inner[0], inner[1]), (around[0], around[1])


def choose_window(x: Tensor, region: Region | None = None, tissue: Tissue = TISSUES[0]) -> Window:
    """Return the part of an image `(1, 1, H, W)`, HU, to be measured: all of it up to 128 x 128 pixels.

    Of a larger image it is the window of that size around the region's middle, or the one with the most of a tissue, by default
    of soft tissue.
    """
    height, width = x.shape[-2:]
    rows, columns = min(height, SIDE), min(width, SIDE)
    if (rows, columns) == (height, width):
        return Window(slice(0, height), slice(0, width), whole=True)
    if region is not None:
        top, left = (
            min(max((side.start + side.stop - length) // 2, 0), limit - length)
            for side, length, limit in zip(region.box, (rows, columns), (height, width), strict=True)
        )
    else:
        inside = ((x > tissue.low) & (x < tissue.high)).float()
        step = 16
        share = functional.avg_pool2d(inside, (rows, columns), stride=step)[0, 0]
        best = int(share.argmax())
        top, left = (best // share.shape[1]) * step, (best % share.shape[1]) * step
    return Window(slice(top, top + rows), slice(left, left + columns), whole=False)
