"""The layer under test with its units, and an image as the layer sees it."""

__all__ = ["ScaledLayer", "Target"]

from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor

from invkit.denoisers.loaded import LoadedDenoiser
from invkit.fiber.distance import Activation
from invkit.fiber.tangent import Tangent
from invkit.split.split import Split


@dataclass(frozen=True)
class ScaledLayer:
    """A layer and the units that distances in it are given in.

    Args:
        split: the layer.
        scale: s_Phi, the root mean square difference of Phi between different patches.
        eta: distance of Phi between two scans, in units of s_Phi: of patches for a model's own, else of the images at hand.
        pixel_scale: s_Phi of the `input` control, where z is the image, HU.
        tangent: the derivative of Phi, traced once for all images.
    """

    split: Split
    scale: float
    eta: float
    pixel_scale: float
    tangent: Tangent = field(repr=False)

    @classmethod
    def of(cls, split: Split, scale: float, eta: float, pixel_scale: float) -> Self:
        """Return a layer whose derivative has not been traced yet."""
        return cls(split, scale, eta, pixel_scale, Tangent(split.phi_grad))

    def at(self, x: Tensor, f_x: Tensor | None = None, f: LoadedDenoiser | None = None) -> "Target":
        """Return what this layer makes of an image.

        Args:
            x: the image, `(1, 1, H, W)`, HU.
            f_x: f(x), likewise, where it is known already.
            f: whose output is watched; by default the denoiser that the layer is part of.
        """
        f = f or self.split.denoiser
        with torch.no_grad():
            return Target(self, x, f(x) if f_x is None else f_x, self.split.phi(x), f)


@dataclass(frozen=True)
class Target:
    """An image under test as a layer sees it: what samples share, and what they are measured against.

    Args:
        layer: the layer.
        x: the image, `(1, 1, H, W)`, HU.
        f_x: f(x), likewise.
        z: Phi(x), `(1, ...)`.
        f: the denoiser whose output is watched.
    """

    layer: ScaledLayer
    x: Tensor
    f_x: Tensor
    z: Activation
    f: LoadedDenoiser

    @property
    def split(self) -> Split:
        """Of the layer."""
        return self.layer.split

    @property
    def scale(self) -> float:
        """Of the layer: s_Phi."""
        return self.layer.scale

    @property
    def size(self) -> tuple[int, int]:
        """Of the image, `(H, W)`, pixels."""
        return self.x.shape[-2], self.x.shape[-1]
