"""How a regressor takes in one tensor of an activation."""

__all__ = ["Entry"]

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from invkit.training.precision import in_float64


class Entry(nn.Module):
    """One tensor of an activation: standardised per channel and brought to the common grid."""

    mean: Tensor
    std: Tensor

    def __init__(self, shape: Sequence[int], flat: bool, channels: int, grid: tuple[int, int]):
        super().__init__()
        features = math.prod(shape) if flat else shape[0]
        self.flat = flat
        self.grid = grid
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))
        self.spread = nn.Linear(features, channels * grid[0] * grid[1]) if flat else None
        self.channels = channels if flat else features

    def observe(self, tensors: Sequence[Tensor]) -> None:
        """Set mean and deviation of each channel from examples; a constant channel is only shifted."""
        axis = (0,) if self.flat else (0, 2, 3)
        together = torch.cat([in_float64(self._shaped(tensor)) for tensor in tensors])
        mean, std = together.mean(axis), together.std(axis, correction=0)
        self.mean.copy_(mean)
        varies = std > 1e-6 * (mean.abs() + std.max() + 1e-30)
        self.std.copy_(torch.where(varies, std, torch.ones_like(std)))

    def forward(self, z: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return `(B, channels, *grid)`."""
        z = self._shaped(z)
        if self.spread is None:
            h = (z - self.mean[:, None, None]).div_(self.std[:, None, None])
        else:
            h = self.spread((z - self.mean) / self.std).reshape(-1, self.channels, *self.grid)
        if h.shape[-2:] != grid:
            h = functional.interpolate(h, grid, mode="bilinear", align_corners=False)
        return h

    def _shaped(self, z: Tensor) -> Tensor:
        return z.flatten(1).float() if self.flat else z.float()
