"""Noise in a part of an image: beyond it the image stays as it is."""

__all__ = ["NoiseWithin"]

from dataclasses import dataclass

import torch
from torch import Tensor

from invkit.noise.covariance import NoiseCovariance


@dataclass(frozen=True)
class NoiseWithin(NoiseCovariance):
    """C of a part of an image: w is of the part's size, noise of the image's, and 0 beyond the part.

    Args:
        place: rows and columns of the part.
        around: size of the image, `(H, W)`.
    """

    place: tuple[slice, slice] = (slice(0), slice(0))
    around: tuple[int, int] = (0, 0)

    def root(self, white: Tensor) -> Tensor:
        """Return A w, `(N, 1, H, W)`, HU, for w of the part."""
        part = super().root(white)
        whole = torch.zeros(*part.shape[:-2], *self.around, dtype=part.dtype, device=part.device)
        whole[(..., *self.place)] = part
        return whole

    def root_transposed(self, images: Tensor) -> Tensor:
        """Return A^T d, of the part, for images d `(N, 1, H, W)`."""
        return super().root_transposed(images[(..., *self.place)])

    def whitened(self, images: Tensor) -> Tensor:
        """Return w = A^-1 d, of the part, for images d `(N, 1, H, W)` that are 0 beyond it."""
        return super().whitened(images[(..., *self.place)])
