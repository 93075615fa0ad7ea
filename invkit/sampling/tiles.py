"""Cutting images of any size into patches of the representation's size, and putting patches together again."""

__all__ = ["Tiling"]

import math

import torch
from torch import Tensor
from torch.nn import functional

from invkit.errors import ImageError


class Tiling:
    """A fixed cover of images of one size by overlapping square patches.

    An image smaller than a patch is padded by reflection at the right and bottom and cropped again. Where patches overlap they
    are blended with weights that fall off linearly towards the patch's border and add up to 1. Independent draws of
    neighbouring patches would lose up to half their variance so; `blend_draws` keeps it.

    Args:
        height: of the images, pixels.
        width: of the images, pixels.
        patch: side of the patches, pixels.
        overlap: pixels that neighbours share at least, where there is more than one; half a patch at most.

    Raises:
        ImageError: the image is empty.
    """

    def __init__(self, height: int, width: int, patch: int, overlap: int = 16) -> None:
        if height < 1 or width < 1:
            raise ImageError(f"an image of {height} x {width} pixels has nothing to analyse")
        self.size = (height, width)
        self.patch = patch
        self.padded = (max(height, patch), max(width, patch))
        overlap = max(1, min(overlap, patch // 2))
        rows, columns = (_starts(length, patch, overlap) for length in self.padded)
        self.corners = [(row, column) for row in rows for column in columns]
        ramp = torch.arange(1, patch + 1, dtype=torch.float32).clamp(max=overlap)
        ramp = torch.minimum(ramp, ramp.flip(0)) / overlap
        self._window = ramp[:, None] * ramp[None, :]
        self._total = torch.zeros(self.padded)
        squares = torch.zeros(self.padded)
        for row, column in self.corners:
            self._total[row : row + patch, column : column + patch] += self._window
            squares[row : row + patch, column : column + patch] += self._window.square()
        self._root = squares.sqrt()
        self._there: dict[torch.device, tuple[Tensor, Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.corners)

    def cut(self, images: Tensor) -> Tensor:
        """Return the patches of images `(B, 1, H, W)` as `(B, T, 1, patch, patch)`."""
        padded = self.pad(images)
        p = self.patch
        return torch.stack([padded[..., r : r + p, c : c + p] for r, c in self.corners], dim=1)

    def blend(self, patches: Tensor) -> Tensor:
        """Return images `(B, 1, H, W)` from patches `(B, T, 1, patch, patch)`."""
        window, total, _ = self._weights(patches.device)
        return self._merged(patches, window, total)

    def blend_draws(self, patches: Tensor, centre: Tensor) -> Tensor:
        """Return images `(N, 1, H, W)` from draws of patches that are independent from tile to tile.

        What is drawn, the difference from the centre, is weighted so that the squares of the weights add up to 1: the standard
        deviation of the draws goes smoothly from one tile's to the next, with no dip where they overlap.

        Args:
            patches: draws, shape `(N, T, 1, patch, patch)`.
            centre: what they scatter around, shape `(1, T, 1, patch, patch)`.
        """
        if len(self) == 1:
            return self.blend(patches)
        window, _, root = self._weights(patches.device)
        return self.blend(centre) + self._merged(patches - centre, window, root)

    def _weights(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Return window, sum of windows and root of the sum of their squares; copied once, for each copy waits for the device."""
        if device not in self._there:
            window, total, root = (part.to(device) for part in (self._window, self._total, self._root))
            self._there[device] = window, total, root
        return self._there[device]

    def _merged(self, patches: Tensor, window: Tensor, total: Tensor) -> Tensor:
        if len(self) == 1:
            whole = patches[:, 0]
        else:
            whole = patches.new_zeros(len(patches), 1, *self.padded)
            p = self.patch
            for index, (r, c) in enumerate(self.corners):
                whole[..., r : r + p, c : c + p] += patches[:, index] * window.to(patches.dtype)
            whole /= total.to(patches.dtype)
        return whole[..., : self.size[0], : self.size[1]]

    def pad(self, images: Tensor) -> Tensor:
        """Return images `(B, 1, H, W)` reflected at the right and bottom to the size of a patch at least."""
        if images.shape[-2:] != self.size:
            raise ImageError(f"these tiles are for images of {self.size}, got {tuple(images.shape[-2:])}")
        while tuple(images.shape[-2:]) != self.padded:
            # Reflection cannot reach further than the image itself, so a small image is padded in several rounds.
            height, width = images.shape[-2:]
            down = min(self.padded[0] - height, max(height - 1, 0))
            right = min(self.padded[1] - width, max(width - 1, 0))
            if down == 0 and right == 0:
                return functional.pad(
                    images, (0, self.padded[1] - width, 0, self.padded[0] - height), mode="replicate"
                )
            images = functional.pad(images, (0, right, 0, down), mode="reflect")
        return images


def _starts(length: int, patch: int, overlap: int) -> list[int]:
    if length <= patch:
        return [0]
    count = math.ceil((length - overlap) / (patch - overlap))
    return [round(index * (length - patch) / (count - 1)) for index in range(count)]
