"""Activation normalisation: a fixed shift and scale for each dimension, started from data on request."""

__all__ = ["ActNorm", "ChannelNorm"]

import torch
from torch import Tensor, nn

from invkit.flow.base import Part


class ActNorm(Part):
    """v = (z_bar + shift) * exp(log_scale), element by element (Kingma and Dhariwal 2018, section 3.1).

    The start comes from `initialise` alone. A forward pass never changes the state, neither in training nor
    in eval mode; `initialised` is a buffer, so a checkpoint knows whether the start was set.

    Args:
        features: number of dimensions.
    """

    initialised: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(features))
        self.log_scale = nn.Parameter(torch.zeros(features))
        self.register_buffer("initialised", torch.zeros((), dtype=torch.bool))

    def forward(self, z_bar: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Shift and scale `(..., features)`; h is not used."""
        v = (z_bar + self.shift) * self.log_scale.exp()
        return v, self.log_scale.sum().expand(z_bar.shape[:-1])

    def inverse(self, v: Tensor, h: Tensor) -> Tensor:
        """Undo `forward`."""
        return v * (-self.log_scale).exp() - self.shift

    @torch.no_grad()
    def initialise(self, z_bar: Tensor, h: Tensor) -> None:
        """Choose shift and scale so that this batch leaves with mean 0 and standard deviation 1.

        A dimension that is constant in the batch keeps scale 1.
        """
        rows = z_bar.reshape(-1, z_bar.shape[-1])
        std = rows.std(0, correction=0)
        self.shift.copy_(-rows.mean(0))
        self.log_scale.copy_(-torch.where(std > 1e-6, std, 1.0).log())
        self.initialised.fill_(True)


class ChannelNorm(ActNorm):
    """The same over the channels of feature maps `(B, C, H, W)`; for the embedder, so without log_det."""

    def normalise(self, maps: Tensor) -> Tensor:
        """Shift and scale each channel of `(B, C, H, W)`."""
        moved: Tensor = self(maps.movedim(1, -1), maps)[0]
        return moved.movedim(-1, 1)

    def initialise_maps(self, maps: Tensor) -> None:
        """Set the start from feature maps `(B, C, H, W)`."""
        self.initialise(maps.movedim(1, -1), maps)
