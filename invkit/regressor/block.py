"""A residual block of a regressor's network."""

__all__ = ["Block"]

import torch
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """h + conv(SiLU(conv(SiLU(h)))); it starts as the identity."""

    def __init__(self, channels: int, side: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, side, padding=side // 2)
        self.second = nn.Conv2d(channels, channels, side, padding=side // 2)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(torch.as_tensor(self.second.bias))

    def forward(self, h: Tensor) -> Tensor:
        """Map `(B, channels, h, w)` to the same shape."""
        out: Tensor = h + self.second(functional.silu(self.first(functional.silu(h))))
        return out
