"""Noise as a CT physicist measures it: in flat regions of soft tissue, with the trend of the anatomy removed."""

__all__ = ["Regions", "flat_regions", "noise_in"]

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from invkit.data.dose.image import SOFT_TISSUE
from invkit.errors import InputError

SMOOTHING = 5  # pixels; takes most of the noise and leaves an edge
FLAT = 0.4  # what a blur leaves of the deviation: 0.28 to 0.38 of CT noise (1 to 99 %), more of an edge


@dataclass(frozen=True)
class Regions:
    """Square regions of a stack of images.

    Args:
        size: side, pixels.
        image: which image each is from, shape `(k,)`.
        row: its upper edge, shape `(k,)`.
        column: its left edge, shape `(k,)`.
    """

    size: int
    image: tuple[int, ...]
    row: tuple[int, ...]
    column: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.image)

    def cut(self, images: Tensor) -> Tensor:
        """Return the regions of images of shape `(n, 1, H, W)`: `(k, 1, size, size)`."""
        corners = zip(self.image, self.row, self.column, strict=True)
        return torch.stack([images[i, :, r : r + self.size, c : c + self.size] for i, r, c in corners])


def flat_regions(images: Tensor, size: int = 32, *, per_image: int = 4) -> Regions:
    """Return the flattest regions of soft tissue, those without an edge; two share at most half their pixels.

    A region is flat where the quadratic trend and a blur of 5 pixels take nearly all of it away: what is left of
    CT noise alone is about a third of its deviation, and an organ's border leaves more.

    Args:
        images: full-dose images, shape `(n, 1, H, W)`, HU.
        size: side of the regions, pixels.
        per_image: how many at most.

    Raises:
        InputError: the images are of another shape, or smaller than a region.
    """
    if images.ndim != 4 or images.shape[1] != 1 or min(images.shape[-2:]) < size:
        raise InputError(
            f"flat regions of {size} pixels need images of shape (n, 1, H, W) at least as large, "
            f"got {tuple(images.shape)}"
        )
    margin = (SMOOTHING // 2,) * 4
    smooth = torch.nn.functional.avg_pool2d(
        torch.nn.functional.pad(images, margin, mode="reflect"), SMOOTHING, stride=1
    )
    step = size // 4
    found: list[tuple[int, int, int]] = []
    for index, (image, blurred) in enumerate(zip(images[:, 0], smooth[:, 0], strict=True)):
        whole, low = (_windows(part, size, step) for part in (image, blurred))
        flat = low.flatten(2)
        score = noise(low).flatten(2).std(dim=2) / noise(whole).flatten(2).std(dim=2)
        tissue = (flat.amin(dim=2) > SOFT_TISSUE[0]) & (flat.amax(dim=2) < SOFT_TISSUE[1])
        score = score.masked_fill(~(tissue & (score <= FLAT)), torch.inf)
        chosen: list[tuple[int, int]] = []
        for place in score.flatten().argsort(stable=True).tolist():
            row, column = (step * side for side in divmod(place, score.shape[1]))
            if len(chosen) == per_image or not bool(score.flatten()[place].isfinite()):
                break
            if all(max(abs(row - r), abs(column - c)) >= size // 2 for r, c in chosen):
                chosen.append((row, column))
        found += [(index, row, column) for row, column in chosen]
    image_of, rows, columns = ([place[axis] for place in found] for axis in range(3))
    return Regions(size, tuple(image_of), tuple(rows), tuple(columns))


def noise_in(images: Tensor, regions: Regions) -> Tensor:
    """Return what is left in each region without its quadratic trend, shape `(k, 1, size, size)`, HU.

    Its power spectrum is the noise power spectrum (Siewerdsen, Cunningham, Jaffray 2002, Med Phys 29(11):2655).

    Args:
        images: shape `(n, 1, H, W)`, HU; those the regions were found in, or what became of them.
        regions: where.

    Raises:
        InputError: there are no regions.
    """
    if not len(regions):
        raise InputError("no image has a flat region of soft tissue to measure noise in; give other images")
    return noise(regions.cut(images))


def noise(regions: Tensor) -> Tensor:
    """Return regions of shape `(..., s, s)` without their least-squares quadratic in the pixel's place."""
    basis = _quadratics(regions.shape[-1]).to(regions)
    flat = regions.flatten(-2)
    without: Tensor = flat - (flat @ basis) @ basis.T
    return without.view(regions.shape)


def _windows(image: Tensor, size: int, step: int) -> Tensor:
    windows: Tensor = image.unfold(0, size, step).unfold(1, size, step)
    return windows


@lru_cache(maxsize=4)
def _quadratics(size: int) -> Tensor:
    """Return an orthonormal basis of the quadratics on a square grid, shape `(size * size, 6)`."""
    side = torch.linspace(-1, 1, size, dtype=torch.float64)
    y, x = torch.meshgrid(side, side, indexing="ij")
    columns = [torch.ones_like(x), x, y, x * y, x.square(), y.square()]
    basis: Tensor = torch.linalg.qr(torch.stack(columns, dim=-1).view(-1, 6)).Q
    return basis
