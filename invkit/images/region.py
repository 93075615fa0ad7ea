"""The part of the images that an analysis is judged on and shows: a rectangle or a mask."""

__all__ = ["Region", "RegionSpec", "choose_region"]

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from invkit.errors import ImageError, UsageError
from invkit.images.box import four_numbers

RegionSpec = str | Path | Sequence[int] | ArrayLike | Tensor | None
LEAST = 8  # pixels a side, of what is shown


@dataclass(frozen=True, eq=False)
class Region:
    """Pixels of an image.

    Args:
        mask: which, shape `(H, W)`, bool.
        description: for people.
    """

    mask: Tensor
    description: str

    @property
    def box(self) -> tuple[slice, slice]:
        """Rows and columns of the smallest rectangle around it."""
        rows, columns = (self.mask.any(axis).nonzero()[:, 0] for axis in (1, 0))
        return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)

    @property
    def part(self) -> float:
        """Of the image's pixels, how many belong to it, in (0, 1]."""
        return float(self.mask.double().mean())

    def crop(self, images: Tensor) -> Tensor:
        """Return the rectangle around it of images `(..., H, W)`."""
        rows, columns = self.box
        return images[..., rows, columns]

    def pixels(self, images: Tensor) -> Tensor:
        """Return its pixels of images `(..., H, W)`, shape `(..., n)`."""
        return images[..., self.mask.to(images.device)]


def choose_region(spec: RegionSpec, size: tuple[int, int]) -> Region | None:
    """Return the region, or `None` for the whole image.

    Args:
        spec: `None`; `"x,y,w,h"` or four whole numbers: column and row of the upper left pixel, width and height; a mask
            of the image's size, an array or the path of a `.npy` or `.png` file, where everything but 0 belongs to it.
        size: height and width of the image.

    Raises:
        UsageError: the rectangle is malformed or leaves the image.
        ImageError: the mask cannot be read, has another size, or is too small.
    """
    if spec is None:
        return None
    numbers = four_numbers(spec, "a region is four whole numbers x,y,w,h, or a mask")
    if numbers is not None:
        x, y, width, height = numbers
        if min(x, y) < 0 or min(width, height) < 1 or x + width > size[1] or y + height > size[0]:
            raise UsageError(
                f"the region {x},{y},{width},{height} (x,y,w,h) extends beyond the image of {size[1]} x {size[0]} pixels"
            )
        mask = torch.zeros(size, dtype=torch.bool)
        mask[y : y + height, x : x + width] = True
        region = Region(mask, f"the region of {width} x {height} pixels at column {x}, row {y}")
    else:
        mask = torch.from_numpy(np.ascontiguousarray(_mask(spec) != 0))
        if tuple(mask.shape) != size:
            raise ImageError(f"a mask must have the image's shape {size}, got {tuple(mask.shape)}")
        region = Region(mask, f"a mask of {int(mask.sum())} pixels")
    if not bool(region.mask.any()) or min(region.crop(region.mask).shape) < LEAST:
        raise ImageError(f"{region.description} is too small: it needs at least {LEAST} x {LEAST} pixels")
    return region


def _mask(spec: RegionSpec) -> np.ndarray:
    if not isinstance(spec, str | Path):
        return np.asarray(spec.detach().cpu() if isinstance(spec, Tensor) else spec)
    path = Path(spec)
    try:
        if path.suffix == ".npy":
            return np.asarray(np.load(path, allow_pickle=False))
        with Image.open(path) as image:
            return np.asarray(image.convert("L"))
    except (OSError, ValueError, UnidentifiedImageError):
        raise ImageError(
            f"the mask {path.name} cannot be read: give a .npy or .png file of the image's size, or x,y,w,h"
        ) from None
