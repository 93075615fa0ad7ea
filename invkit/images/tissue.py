"""Tissues by their Hounsfield units, and places within one for structures of several sizes."""

__all__ = ["TISSUES", "Tissue", "by_area", "places_for"]

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

from invkit.data.dose.image import SOFT_TISSUE
from invkit.images.disc import disc
from invkit.training.seeds import derive_seed

Part = tuple[slice, slice]  # rows and columns
PURE = 0.9  # of a place's pixels that are of the tissue
NEAR = 3  # pixels on a side, over which noise is averaged before a pixel is assigned


@dataclass(frozen=True)
class Tissue:
    """A range of mean HU.

    Args:
        name: in a sentence after "in".
        low: HU.
        high: HU.
    """

    name: str
    low: float
    high: float

    def mask(self, image: Tensor) -> Tensor:
        """Return which pixels of an image `(1, 1, H, W)`, HU, are of the tissue, `(1, 1, H, W)`, float64."""
        mean = avg_pool2d(image.cpu().double(), NEAR, stride=1, padding=NEAR // 2, count_include_pad=False)
        return ((mean > self.low) & (mean < self.high)).double()


# Lung: what is normally aerated (Gattinoni et al. 2001, Am J Respir Crit Care Med 164, 1701). Bone: from where compact bone begins
# (Kalender 2011, Computed Tomography) up to where metal may. Soft tissue: between, with fat and spongy bone.
TISSUES = (
    Tissue("soft tissue", *SOFT_TISSUE),
    Tissue("lung", -900.0, -500.0),
    Tissue("bone", SOFT_TISSUE[1], 2000.0),
)


def by_area(images: Sequence[Tensor]) -> list[Tissue]:
    """Return all tissues, the commonest in images `(1, 1, H, W)`, HU, first."""

    def area(tissue: Tissue) -> float:
        return sum(float(tissue.mask(image).sum()) for image in images)

    return sorted(TISSUES, key=area, reverse=True)


def places_for(
    image: Tensor, tissue: Tissue, radii: Sequence[float], count: int, *, seed: int, part: Part | None = None
) -> dict[float, Tensor]:
    """Return centres of discs within a tissue for each radius that has any, rows and columns, `(k, 2)` with k up to `count`.

    The places of larger discs serve smaller ones as well; others are added where these are too few.

    Args:
        image: `(1, 1, H, W)`, HU.
        tissue: of which nine tenths of a disc's pixels and its mean are.
        radii: pixels.
        count: how many are wanted for each radius.
        seed: of the choice.
        part: of the image, that discs lie in; all of it by default.
    """
    rows, columns = part or (slice(0, image.shape[-2]), slice(0, image.shape[-1]))
    inner = image[..., rows, columns].cpu().double()
    if min(inner.shape[-2:]) < NEAR:
        return {}
    pure = tissue.mask(inner)
    allowed = torch.ones(inner.shape[-2:], dtype=torch.bool)
    within = {}
    for radius in sorted(radii):
        allowed = allowed & _fits(inner, pure, tissue, radius)
        within[radius] = allowed
    found: dict[float, Tensor] = {}
    chosen = torch.empty(0, 2, dtype=torch.int64)
    for radius in sorted(radii, reverse=True):
        new = within[radius].clone()
        new[tuple(chosen.T)] = False
        others = new.nonzero()
        order = np.random.default_rng(derive_seed(seed, str(radius))).permutation(len(others))
        chosen = torch.cat([chosen, others[torch.from_numpy(order[: count - len(chosen)])]])
        if len(chosen):
            found[radius] = chosen + torch.tensor([rows.start, columns.start])
    return found


def _fits(image: Tensor, pure: Tensor, tissue: Tissue, radius: float) -> Tensor:
    """Return whether a disc around each pixel lies in the image and in the tissue, `(H, W)`."""
    reach = int(np.ceil(radius))
    found = torch.zeros(image.shape[-2:], dtype=torch.bool)
    if min(found.shape) < 2 * reach + 1:
        return found
    kernel = disc(2 * reach + 1, 2 * reach + 1, (reach, reach), radius)[None, None]
    kernel = kernel / kernel.sum()
    mean, share = conv2d(image, kernel)[0, 0], conv2d(pure, kernel)[0, 0]
    rows, columns = (slice(reach, length - reach) for length in found.shape)
    found[rows, columns] = (mean > tissue.low) & (mean < tissue.high) & (share >= PURE)
    return found
