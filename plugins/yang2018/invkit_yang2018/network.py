"""The generator and the critic of Yang et al. 2018 (arXiv 1708.00961), section II."""

__all__ = ["Critic", "Yang2018"]

from collections import OrderedDict

import torch
from torch import Tensor, nn


class Yang2018(nn.Sequential):
    """Eight 3x3 convolutions, seven with 32 filters and a ReLU, the last with one; padded with zeros to keep the size."""

    def __init__(self) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for k in range(1, 8):
            layers[f"conv{k}"] = nn.Conv2d(1 if k == 1 else 32, 32, 3, padding=1)
            layers[f"relu{k}"] = nn.ReLU(inplace=True)
        layers["conv8"] = nn.Conv2d(32, 1, 3, padding=1)
        super().__init__(layers)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack it


class Critic(nn.Module):
    """Six 3x3 convolutions (64, 64/2, 128, 128/2, 256, 256/2), LeakyReLU, and two linear layers (1024, 1).

    Args:
        patch: side of the square patches it judges, pixels.
    """

    def __init__(self, patch: int = 64) -> None:
        super().__init__()
        convolutions: list[nn.Module] = []
        channels, side = 1, patch
        for width in (64, 128, 256):
            for stride in (1, 2):
                convolutions += [nn.Conv2d(channels, width, 3, stride, padding=1), nn.LeakyReLU(0.2)]
                channels, side = width, (side - 1) // stride + 1
        self.convolutions = nn.Sequential(*convolutions)
        self.linear = nn.Sequential(
            nn.Linear(channels * side * side, 1024), nn.LeakyReLU(0.2), nn.Linear(1024, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return one score for each patch, shape `(B, 1)`; x: `(B, 1, patch, patch)`, network units."""
        score: Tensor = self.linear(self.convolutions(x).flatten(1))
        return score
