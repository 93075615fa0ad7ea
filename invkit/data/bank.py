"""A bank of held-out patches, searched for those that look most like an image without holding any of them."""

__all__ = ["PatchBank"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from invkit import artifacts
from invkit.data.patches import PatchSampler
from invkit.data.slices import SliceSet

PATCHES = 2_000
PIXELS = PATCHES * 128 * 128  # of all patches together; larger images have fewer
BLOCK = 4  # pixels: means over such blocks are compared
BATCH = 25
KIND = "bank"
VERSION = 1  # of how patches are drawn: a new one lets nobody find means of the old ones


@dataclass(frozen=True)
class PatchBank:
    """Other images of one size, known by their means over blocks of 4 x 4 pixels.

    Args:
        means: block means, `(n, k)`, HU.
        patches: returns the images of these indices, `(len, 1, H, W)`, HU.
    """

    means: Tensor
    patches: Callable[[Sequence[int]], Tensor]

    def __len__(self) -> int:
        return len(self.means)

    @classmethod
    def of(cls, images: Tensor) -> "PatchBank":
        """Return a bank of given images, `(n, 1, H, W)`, HU."""
        return cls(_means(images), lambda indices: images[list(indices)])

    @classmethod
    def draw(
        cls, slices: SliceSet, size: Sequence[int], *, dose: float, seed: int, keep: Path | None = None
    ) -> "PatchBank":
        """Return a bank of low-dose patches: 2,000 of up to 128 x 128 pixels, of larger ones as many as have these pixels.

        Noise is added in the image whatever the set says: simulating it on the rays of a scanner costs a second per slice, and
        what is nearest is decided by anatomy. A real low-dose partner is used as it is.

        Args:
            slices: what to draw from, the test part as a rule.
            size: `(H, W)` of the patches; cut from squares.
            dose: of the patches, as a fraction of the high dose.
            seed: decides every patch.
            keep: folder in which the means are kept between runs; nothing is kept without it.
        """
        side = max(size)
        count = max(1, min(PATCHES, PIXELS // (side * side)))
        sampler = PatchSampler(replace(slices, noise="image"), side, dose=dose, seed=seed)

        def cut(images: Tensor) -> Tensor:
            return images[..., : size[0], : size[1]]

        def patches(indices: Sequence[int]) -> Tensor:
            found = [
                sampler.batch(index // BATCH, BATCH, slice(index % BATCH, index % BATCH + 1)).x
                for index in indices
            ]
            return cut(torch.cat(found))

        def means() -> dict[str, Tensor]:
            steps = range(-(-count // BATCH))
            found = [_means(cut(sampler.batch(step, BATCH).x)) for step in steps]
            return {"means": torch.cat(found)[:count]}

        request = {
            "kind": KIND,
            "version": VERSION,
            "data": slices.fingerprint,
            "size": list(size),
            "patches": count,
            "block": BLOCK,
            "dose": dose,
            "seed": seed,
        }
        return cls(artifacts.kept(keep, request, means)["means"], patches)

    def like(self, image: Tensor, count: int) -> list[int]:
        """Return the indices of the patches whose block means are nearest to an image's, the nearest first.

        Args:
            image: `(1, 1, H, W)`, HU.
            count: how many; all where there are fewer.
        """
        distance = (self.means - _means(image.to(self.means))).square().mean(1)
        indices: list[int] = distance.argsort(stable=True)[:count].tolist()
        return indices


def _means(images: Tensor) -> Tensor:
    return functional.avg_pool2d(images, BLOCK, ceil_mode=True).flatten(1)
