"""The Wasserstein critic C: a patch becomes one number, high where it looks real."""

__all__ = ["Critic"]

import torch
from torch import Tensor, nn
from torch.nn import functional

from invkit.vae.encoder import SLOPE


class Critic(nn.Module):
    """C(x) of the Wasserstein GAN (Arjovsky et al. 2017); nothing mixes images, for the penalty is per image.

    Pixels are folded into channels by `stem`, then two convolutions on that grid and two on the grids of a
    half and a quarter follow, and the mean over positions is read out: texture decides, not layout.

    Args:
        stem: side of the pixel blocks that become channels; patches must be multiples of `4 * stem`.
        width: channels; doubled on the coarsest grid.
    """

    def __init__(self, *, stem: int, width: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(stem),
            nn.Conv2d(stem * stem, width, 3, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(width, width, 4, stride=2, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
        )
        self.head = nn.Linear(2 * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return one score per patch, `(B,)` float32, of scaled patches `(B, 1, H, W)`."""
        h = self.layers(x.contiguous(memory_format=torch.channels_last))
        score: Tensor = self.head(functional.leaky_relu(h, SLOPE).mean(dim=(2, 3)))
        return score.float()[:, 0]
