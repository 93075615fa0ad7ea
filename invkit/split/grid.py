"""How the activation of a layer lies on the image."""

__all__ = ["Grid", "grid_of"]

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """How one tensor of z lies on the image.

    Attributes:
        shape: of z for one image, without the batch.
        stride: z is `(channels, H'/stride, W'/stride)` for the padded image `(H', W')`; None where it is not.
        size: the padded image `(H', W')`, pixels.
    """

    shape: tuple[int, ...]
    stride: int | None
    size: tuple[int, int]


def grid_of(z: Tensor, size: tuple[int, int]) -> Grid:
    """Return how a tensor of z, shape `(B, ...)`, lies on the padded image of `size` (H', W')."""
    shape = tuple(z.shape[1:])
    if len(shape) != 3 or 0 in shape:
        return Grid(shape, None, size)
    stride = size[0] // shape[1]
    fits = (stride * shape[1], stride * shape[2]) == size
    return Grid(shape, stride if fits else None, size)
