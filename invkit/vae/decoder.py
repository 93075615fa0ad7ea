"""The decoder D: a code becomes a patch."""

__all__ = ["Decoder"]

import torch
from torch import Tensor, nn
from torch.nn import functional

from invkit.vae.encoder import SLOPE, ResidualBlock, Sizes


class Decoder(nn.Module):
    """x_bar = D(z_bar): the encoder's mirror image.

    Sub-pixel convolutions (Shi et al. 2016) do the two steps up.

    Args:
        sizes: those that E and D have in common.
        blocks: residual blocks on the grid of `patch / stem`, and on that of half its size.
        given: images that it is given besides the code.
    """

    def __init__(self, sizes: Sizes, blocks: tuple[int, int], *, given: int = 0):
        super().__init__()
        stem, width = sizes.stem, sizes.width
        self.grid = sizes.grid
        self.neck_width = sizes.neck
        self.spread = nn.Linear(sizes.d, sizes.neck * self.grid**2)
        self.neck = nn.Conv2d(sizes.neck, width, 1)
        self.coarse = nn.Sequential(*(ResidualBlock(width, sizes.inner) for _ in range(blocks[1])))
        self.up = nn.Sequential(nn.Conv2d(width, 4 * width, 1), nn.PixelShuffle(2))
        # With the smooth image in view, sharpening its edges is a local task, which is learned fast.
        pixels = (1 + given) * stem * stem
        self.view = nn.Sequential(nn.PixelUnshuffle(stem), nn.Conv2d(pixels, width, 3, padding=1))
        self.fine = nn.Sequential(*(ResidualBlock(width, sizes.inner) for _ in range(blocks[0])))
        self.head = nn.Conv2d(width, stem * stem, 3, padding=1)
        self.unfold = nn.PixelShuffle(stem)
        means = sizes.patch // sizes.pool
        self.linear = nn.Linear(sizes.d, means**2)
        self.blocks = nn.Unflatten(1, (1, means, means))
        self.size = sizes.patch

    @property
    def last(self) -> Tensor:
        """The weight of the last layer, where the adversarial term is balanced against the reconstruction."""
        return self.head.weight

    def forward(self, z_bar: Tensor, given: Tensor | None = None) -> Tensor:
        """Return scaled patches `(B, 1, patch, patch)`, float32, of codes `(B, d)` and what is given, of the same shape."""
        h = self.spread(z_bar).unflatten(1, (self.neck_width, self.grid, self.grid))
        h = self.coarse(self.neck(h.contiguous(memory_format=torch.channels_last)))
        smooth = self.smooth(z_bar)
        seen = smooth if given is None else torch.cat([smooth, given], dim=1)
        h = self.up(functional.leaky_relu(h, SLOPE)) + self.view(seen)
        h = h.contiguous(memory_format=torch.channels_last)
        h = self.head(functional.leaky_relu(self.fine(h), SLOPE))
        image: Tensor = self.unfold(h.float()) + smooth
        return image.contiguous()

    def smooth(self, z_bar: Tensor) -> Tensor:
        """Return what the linear path gives: block means, interpolated."""
        means = self.blocks(self.linear(z_bar).float())
        return functional.interpolate(means, self.size, mode="bilinear", align_corners=False)
