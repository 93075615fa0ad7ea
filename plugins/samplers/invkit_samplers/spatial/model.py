"""A layer's trained flow of spatial codes: draws of whole images of any size, without tiles."""

__all__ = ["CodeFrame", "SpatialModel"]

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from invkit.samplers import HU_RANGE, Activation, FlowModel, ImageDraws, generator, to_device
from invkit_samplers.spatial.code import SpatialVae
from invkit_samplers.wavelet.flow import WaveletFlow


@dataclass(frozen=True)
class CodeFrame:
    """Where z puts the code: coordinates r = (z_bar - mean) / deviation with the posterior of the estimated image, E(g(z)).

    An affine map that z decides, so the likelihood of z_bar is that of r over the product of the deviations. Where g(z) is x,
    as for the control `input`, r is the noise of the posterior, N(0, 1), before anything is learned.

    Args:
        mean: of E(g(z)), `(B, c, h, w)`.
        log_var: logarithm of its variance, of the same shape.
    """

    mean: Tensor
    log_var: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, vae: SpatialVae, estimate: Tensor, multiple: int) -> "CodeFrame":
        """Return the frame of images g(z), `(B, 1, H, W)`, HU, whose code has sides that are multiples of `multiple`."""
        posterior = vae.encode(vae.pad(estimate, multiple))
        return cls(posterior.mean, posterior.log_var)

    def into(self, code: Tensor) -> Tensor:
        """Return the coordinates of codes, `(B, c, h, w)`."""
        return (code - self.mean) * (-0.5 * self.log_var).exp()

    def back(self, r: Tensor) -> Tensor:
        """Undo `into`."""
        return self.mean + (0.5 * self.log_var).exp() * r

    def shift(self) -> Tensor:
        """Return what must be added to the NLL of r for that of the code, `(B,)`, nats per dimension."""
        return 0.5 * self.log_var.flatten(1).mean(1)

    def condition(self, unit: int) -> Tensor:
        """Return mean and log-variance on the grid of a flow, `(B, 2 c unit^2, h / unit, w / unit)`."""
        return functional.pixel_unshuffle(torch.cat([self.mean, self.log_var], dim=1), unit)


@dataclass(frozen=True)
class SpatialModel(FlowModel):
    """t(r | z) for one layer, r the code of the image in the frame of the code of g(z), with g, E and D.

    Likelihoods are in nats per number of the code.
    """

    vae: SpatialVae
    flow: WaveletFlow

    @torch.no_grad()
    def prepare(self, z: Activation, size: Sequence[int]) -> ImageDraws:
        """Return what draws images D(t^-1(v | z)) of a size `(H, W)` given an activation `(1, ...)`."""
        frame, h = self._embedded(z, size)
        shape = tuple(frame.mean.shape[1:])

        @torch.no_grad()
        def draws(seed: int, image: int, indices: Sequence[int]) -> Tensor:
            noise = [torch.randn(shape, generator=generator(seed, "s", image, k)) for k in indices]
            code = frame.back(self.flow.inverse(to_device(torch.stack(noise), frame.mean.device), h))
            return self._decoded(code, size)

        return draws

    @torch.no_grad()
    def swap(self, image: Tensor, z: Activation, other: Activation) -> Tensor:
        """Return D(t^-1(v | other)) with v = t(E(image) | z), `(1, 1, H, W)`, HU."""
        size = (image.shape[-2], image.shape[-1])
        frame, h = self._embedded(z, size)
        code = self.vae.encode(self.vae.pad(image, self.flow.config.multiple)).mean
        v, _ = self.flow(frame.into(code), h)
        frame, h = self._embedded(other, size)
        return self._decoded(frame.back(self.flow.inverse(v, h)), size)

    @torch.no_grad()
    def reconstruct(self, image: Tensor) -> Tensor:
        """Return D(E(x)) of images `(B, 1, H, W)` of any size, HU."""
        return self.vae.reconstruct(image)

    def _decoded(self, code: Tensor, size: Sequence[int]) -> Tensor:
        """Return images of codes, `(n, 1, H, W)`, HU, in the range that E sees: no code of an image lies beyond it."""
        return self.vae.decode(code)[..., : size[0], : size[1]].clamp(*HU_RANGE)

    def _embedded(self, z: Activation, size: Sequence[int]) -> tuple[CodeFrame, tuple[Tensor, ...]]:
        frame = CodeFrame.of(self.vae, self.estimate(z, size), self.flow.config.multiple)
        return frame, self.flow.embed(frame.condition(self.flow.config.unit))
