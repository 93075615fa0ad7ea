"""The encoder E: a patch becomes mean and log-variance of a Gaussian over codes."""

__all__ = ["Encoder", "ResidualBlock", "Sizes"]

from dataclasses import dataclass, fields
from typing import Self

import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.nn import functional

SLOPE = 0.2


@dataclass(frozen=True)
class Sizes:
    """What E and D have in common.

    Args:
        patch: side of the square patches, a multiple of `2 * stem`.
        d: length of the code.
        stem: side of the pixel blocks that become channels.
        width: channels.
        inner: channels of the 3x3 convolutions inside the blocks.
        neck: channels on the coarse grid at the linear layer.
        pool: side of the pixel blocks whose means a second, linear path between image and code has.
    """

    patch: int
    d: int
    stem: int
    width: int
    inner: int
    neck: int
    pool: int

    @classmethod
    def of(cls, config: BaseModel) -> Self:
        """Return the sizes that a VAE's configuration states."""
        return cls(**{field.name: getattr(config, field.name) for field in fields(cls)})

    @property
    def grid(self) -> int:
        """Side of the coarse grid."""
        return self.patch // (2 * self.stem)


class ResidualBlock(nn.Module):
    """A bottleneck residual block: 1x1 down, 3x3, 1x1 up, each after a LeakyReLU; it starts as the identity.

    The last convolution starts at zero, which takes the place of a normalisation layer: GroupNorm's backward
    pass costs 15 to 20 % of a step on a CPU.
    """

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.reduce = nn.Conv2d(width, inner, 1)
        self.mix = nn.Conv2d(inner, inner, 3, padding=1)
        self.expand = nn.Conv2d(inner, width, 1)
        nn.init.zeros_(self.expand.weight)
        nn.init.zeros_(torch.as_tensor(self.expand.bias))

    def forward(self, h: Tensor) -> Tensor:
        """Map `(B, width, h, w)` to the same shape."""
        inner = self.reduce(functional.leaky_relu(h, SLOPE))
        inner = self.mix(functional.leaky_relu(inner, SLOPE))
        out: Tensor = h + self.expand(functional.leaky_relu(inner, SLOPE))
        return out


class Encoder(nn.Module):
    """q(z_bar | x) = N(mean, diag(exp(log_var))).

    Pixels are folded into channels first (`stem` x `stem` pixels become one position), so that all
    convolutions work on small grids with many channels, where a CPU is fastest.

    Args:
        sizes: those that E and D have in common.
        blocks: residual blocks on the grid of `patch / stem`, and on that of half its size.
        inputs: images that it sees; the code is that of the first.
    """

    def __init__(self, sizes: Sizes, blocks: tuple[int, int], *, inputs: int = 1):
        super().__init__()
        stem, width, pool = sizes.stem, sizes.width, sizes.pool
        pixels = inputs * stem * stem
        self.stem = nn.Sequential(nn.PixelUnshuffle(stem), nn.Conv2d(pixels, width, 3, padding=1))
        self.fine = nn.Sequential(*(ResidualBlock(width, sizes.inner) for _ in range(blocks[0])))
        self.down = nn.Conv2d(width, width, 2, stride=2)
        self.coarse = nn.Sequential(*(ResidualBlock(width, sizes.inner) for _ in range(blocks[1])))
        self.neck = nn.Conv2d(width, sizes.neck, 1)
        self.head = nn.Linear(sizes.neck * sizes.grid**2, 2 * sizes.d)
        self.pool = nn.AvgPool2d(pool)
        self.linear = nn.Linear((sizes.patch // pool) ** 2, sizes.d)
        # A narrow posterior from the start: with variance 1 the decoder would see noise alone.
        with torch.no_grad():
            self.head.bias[sizes.d :] = -3.0

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance, each `(B, d)` float32, of scaled patches `(B, inputs, patch, patch)`."""
        h = self.stem(x.contiguous(memory_format=torch.channels_last))
        h = self.coarse(self.down(self.fine(h)))
        h = self.neck(functional.leaky_relu(h, SLOPE))
        mean, log_var = self.head(h.flatten(1)).float().chunk(2, dim=1)
        mean = mean + self.linear(self.pool(x[:, :1]).flatten(1)).float()
        return mean, log_var.clamp(-16.0, 4.0)
