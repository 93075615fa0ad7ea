"""A layer's trained wavelet flow: draws of whole images in residual coordinates r = x - g(z), without tiles or a decoder."""

__all__ = ["WaveletModel", "grid_condition"]

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from invkit.samplers import Activation, FlowModel, ImageDraws, Regressor, generator, to_device
from invkit_samplers.wavelet.config import WaveletConfig
from invkit_samplers.wavelet.flow import WaveletFlow


@torch.no_grad()
def grid_condition(regressor: Regressor, z: Activation, estimate: Tensor, config: WaveletConfig) -> Tensor:
    """Return the condition of the flow: z itself on the grid of the flow, and the image estimated from it beside it.

    The estimate alone would leave out what z says of how sure it is. Where the grid of z is finer than the flow's, blocks of it are
    folded into channels, so nothing of z is lost; where it is coarser, or no divisor of the image's, it is interpolated.

    Args:
        regressor: g, which standardises z and, where it has very many channels, mixes them to fewer.
        z: an activation, batch `B`.
        estimate: g(z), `(B, 1, H, W)`, HU.
        config: of the flow.

    Returns:
        `(B, C, H' / unit, W' / unit)`, where H' and W' are H and W, made larger to the next multiple that the flow takes.
    """
    unit, (height, width) = config.unit, estimate.shape[-2:]
    image = _enlarged((estimate - regressor.config.hu_mean) / regressor.config.hu_scale, config.multiple)
    grid = (image.shape[-2] // unit, image.shape[-1] // unit)
    features = regressor.features(z, (height, width))
    stride = max(1, height // features.shape[-2])
    exact = tuple(side * stride for side in features.shape[-2:]) == (height, width)
    if exact and unit % stride == 0:
        features = functional.pixel_unshuffle(_enlarged(features, config.multiple // stride), unit // stride)
    else:
        size = (math.ceil(height / unit), math.ceil(width / unit))
        features = functional.interpolate(features, size, mode="bilinear", align_corners=False)
        features = _enlarged(features, config.multiple // unit)
    assert tuple(features.shape[-2:]) == grid
    return torch.cat([functional.pixel_unshuffle(image, unit), features], dim=1)


def _enlarged(grid: Tensor, multiple: int) -> Tensor:
    """Return a grid `(B, c, h, w)` continued at the right and bottom to a multiple; its last values are repeated."""
    down, right = (-side % multiple for side in grid.shape[-2:])
    return functional.pad(grid, (0, right, 0, down), mode="replicate") if down or right else grid


@dataclass(frozen=True)
class WaveletModel(FlowModel):
    """t(r | z) for one layer, with the regressor g that r is the residual of.

    A wavelet flow is in the place of cINN, E and D of `LayerModel`. Likelihoods are in nats per pixel of an
    image in HU.
    """

    flow: WaveletFlow

    @torch.no_grad()
    def prepare(self, z: Activation, size: Sequence[int]) -> ImageDraws:
        """Return what draws images g(z) + t^-1(v | z) of a size `(H, W)` given an activation `(1, ...)`."""
        estimate, h = self._embedded(z, size)
        padded = tuple(side + -side % self.flow.config.multiple for side in size)

        @torch.no_grad()
        def draws(seed: int, image: int, indices: Sequence[int]) -> Tensor:
            noise = [torch.randn(1, *padded, generator=generator(seed, "w", image, k)) for k in indices]
            r = self.flow.inverse(to_device(torch.stack(noise), estimate.device), h)
            return estimate + r[..., : size[0], : size[1]]

        return draws

    @torch.no_grad()
    def swap(self, image: Tensor, z: Activation, other: Activation) -> Tensor:
        """Return g(other) + t^-1(v | other) with v = t(image - g(z) | z), `(1, 1, H, W)`, HU."""
        size = (image.shape[-2], image.shape[-1])
        estimate, h = self._embedded(z, size)
        v, _ = self.flow(_enlarged(image - estimate, self.flow.config.multiple), h)
        estimate, h = self._embedded(other, size)
        return estimate + self.flow.inverse(v, h)[..., : size[0], : size[1]]

    def reconstruct(self, image: Tensor) -> Tensor:
        """Return what the representation keeps of an image: all of it."""
        return image

    def _embedded(self, z: Activation, size: Sequence[int]) -> tuple[Tensor, tuple[Tensor, ...]]:
        estimate = self.estimate(z, size)
        return estimate, self.flow.embed(grid_condition(self.regressor, z, estimate, self.flow.config))
