"""What draws images for a layer: the contract of samplers, and what their models share."""

__all__ = [
    "FlowModel",
    "ImageDraws",
    "ImageSampler",
    "LayerModel",
    "SampleModel",
    "Scalable",
    "estimate_image",
]

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from invkit.fiber.distance import Activation
from invkit.flow.cinn import CINN
from invkit.regressor.regressor import Regressor
from invkit.sampling.draws import invariances
from invkit.sampling.layer import Target
from invkit.sampling.tiles import Tiling
from invkit.split.split import Split
from invkit.training.feed import to_device
from invkit.vae.vae import VAE

ImageDraws = Callable[[int, int, Sequence[int]], Tensor]
"""From seed, image and indices to draws `(n, 1, H, W)`, HU; draw k depends on these alone where chunks are whole."""


class ImageSampler(Protocol):
    """What draws images that share a layer's activation, or that are to be refined until they do; trained or not."""

    def draws(self, target: Target) -> ImageDraws:
        """Return what draws images for one image under test; what all draws share is computed here."""


@runtime_checkable
class SampleModel(ImageSampler, Protocol):
    """What images that share an activation are drawn from, whatever represents them.

    The fields are those of `FlowModel`: likelihoods are of the representation's own numbers, in nats per dimension.
    """

    @property
    def split(self) -> Split:
        """The layer."""

    @property
    def meta(self) -> dict[str, Any]:
        """Provenance and held-out figures."""

    @property
    def sha256(self) -> str:
        """Of the file it was read from."""

    @property
    def nll_rows(self) -> Tensor:
        """Held-out negative log-likelihoods, `(n,)`."""

    @property
    def patients(self) -> Tensor:
        """Number of the patient each of them is from, `(n,)`."""

    @property
    def floor_rows(self) -> Tensor | None:
        """The least each of them can be, `(n,)`."""

    def prepare(self, z: Activation, size: Sequence[int]) -> ImageDraws:
        """Return what draws images of a size `(H, W)` given one activation; what all draws share is computed here."""

    def swap(self, image: Tensor, z: Activation, other: Activation) -> Tensor:
        """Return the image with its own v = t(. | z) but another's z, `(1, 1, H, W)`, HU."""

    def reconstruct(self, image: Tensor) -> Tensor:
        """Return what the representation keeps of images `(B, 1, H, W)`, HU; the rest is completed by noise."""


@runtime_checkable
class Scalable(Protocol):
    """A model whose v is of a code, so that more of the same is another image that it deems likely."""

    def scaled(self, image: Tensor, z: Activation, factor: float) -> Tensor:
        """Return the image with its own v = t(. | z) times a factor, `(1, 1, H, W)`, HU."""


@torch.no_grad()
def estimate_image(
    split: Split,
    regressor: Regressor,
    z: Activation,
    size: Sequence[int],
    *,
    stages: int | None = None,
) -> Tensor:
    """Return g(z) as conditions of flows know it, `(B, 1, H, W)`, HU.

    Args:
        split: the layer.
        regressor: g.
        z: an activation, batch `B`.
        size: `(H, W)` of the images.
        stages: of the descent, at most; by default as many as make conditions.
    """
    count = regressor.condition_stages if stages is None else stages
    estimate: Tensor = regressor(z, (size[0], size[1]), phi=split.phi, stages=count)
    return estimate


@dataclass(frozen=True, kw_only=True)
class FlowModel:
    """What the models of all representations hold: the layer, a regressor, and the held-out likelihoods of a flow.

    Args:
        split: the layer.
        regressor: g, from z to an image in HU.
        meta: provenance and held-out figures.
        sha256: of the file it was read from.
        nll_rows: held-out negative log-likelihoods in nats per dimension, one per patch, shape `(n,)`.
        patients: number of the patient each of them is from, shape `(n,)`.
        floor_rows: the least each of them can be, for codes their posterior entropy, `(n,)`; `None` in files from older versions.
    """

    split: Split
    regressor: Regressor
    meta: dict[str, Any]
    sha256: str
    nll_rows: Tensor
    patients: Tensor
    floor_rows: Tensor | None = None

    def prepare(self, z: Activation, size: Sequence[int]) -> ImageDraws:
        """Return what draws images of a size `(H, W)` given an activation `(1, ...)`."""
        raise NotImplementedError

    def draws(self, target: Target) -> ImageDraws:
        """Return what draws images that share the activation of an image under test."""
        return self.prepare(target.z, target.size)

    def estimate(self, z: Activation, size: Sequence[int]) -> Tensor:
        """Return g(z), the image estimated from an activation, `(B, 1, H, W)`, HU."""
        return estimate_image(self.split, self.regressor, z, size)


@dataclass(frozen=True)
class LayerModel(FlowModel):
    """t(z_bar | z) for one layer, with the networks that turn z into its condition and codes into images.

    The condition of z is the code of an image estimated from it: `c = E(g(z))`, where g is a small network that regresses the
    image from the activation. The same code path serves layers, `input` and `const`.

    Args:
        vae: E and D; of the target domain.
        cinn: t.
        held_out: what else the file keeps of held-out patches, by name; empty in files from older versions.
    """

    vae: VAE
    cinn: CINN
    held_out: Mapping[str, Tensor] = field(default_factory=dict)

    @torch.no_grad()
    def condition(self, estimate: Tensor) -> Tensor:
        """Return the condition `(B, 2 d)` of estimated patches `(B, 1, patch, patch)`, HU."""
        posterior = self.vae.encode(estimate)
        return torch.cat([posterior.mean, posterior.log_var], dim=1)

    @torch.no_grad()
    def embed(self, condition: Tensor) -> Tensor:
        """Return h `(B, k)`, the embedding of conditions `(B, 2 d)`: once for each image, however many samples."""
        return self.cinn.embed(condition)

    @torch.no_grad()
    def invert(self, v: Tensor, h: Tensor) -> Tensor:
        """Return z_bar' = t^-1(v | z): v `(N, B, d)`, h `(B, k)`, result `(N, B, d)`."""
        return self.cinn.inverse(v, h)

    def codes(self, condition: Tensor, v: Tensor) -> Tensor:
        """Return z_bar' = t^-1(v | z): condition `(B, 2 d)`, v `(N, B, d)`, result `(N, B, d)`."""
        return self.invert(v, self.embed(condition))

    @torch.no_grad()
    def invariance_of(self, patches: Tensor, condition: Tensor) -> Tensor:
        """Return v = t(E(x) | z) of patches `(B, 1, patch, patch)`, HU: what the layer does not say about them, `(B, d)`."""
        v: Tensor = self.cinn(self.vae.encode(patches).mean, self.cinn.embed(condition))[0]
        return v

    def prepare(self, z: Activation, size: Sequence[int]) -> ImageDraws:
        """Return what draws images of a size `(H, W)` given an activation `(1, ...)`, tile by tile."""
        tiling = Tiling(size[0], size[1], self.vae.patch)
        h = self.embed(self.condition(tiling.cut(self.estimate(z, size))[0]))
        device = h.device
        # What the draws of a tile scatter around; tiles are drawn independently.
        centre = self._decoded(torch.zeros(1, len(tiling), self.vae.d, device=device), h)

        def draws(seed: int, image: int, indices: Sequence[int]) -> Tensor:
            tiles = [invariances(seed, image, tile, indices, self.vae.d) for tile in range(len(tiling))]
            v = torch.stack(tiles, dim=1)
            return tiling.blend_draws(self._decoded(to_device(v, device), h), centre)

        return draws

    def swap(self, image: Tensor, z: Activation, other: Activation) -> Tensor:
        """Return D(t^-1(v | other)) with v = t(E(image) | z), `(1, 1, H, W)`, HU."""
        size = (image.shape[-2], image.shape[-1])
        tiling = Tiling(*size, self.vae.patch)
        condition, target = (self.condition(tiling.cut(self.estimate(each, size))[0]) for each in (z, other))
        v = self.invariance_of(tiling.cut(image)[0], condition)
        with torch.no_grad():
            return tiling.blend(self.vae.decode(self.codes(target, v[None])[0])[None])

    @torch.no_grad()
    def scaled(self, image: Tensor, z: Activation, factor: float) -> Tensor:
        """Return D(t^-1(a v | z)) with v = t(E(image) | z), `(1, 1, H, W)`, HU."""
        size = (image.shape[-2], image.shape[-1])
        tiling = Tiling(*size, self.vae.patch)
        condition = self.condition(tiling.cut(self.estimate(z, size))[0])
        v = factor * self.invariance_of(tiling.cut(image)[0], condition)
        return tiling.blend(self.vae.decode(self.codes(condition, v[None])[0])[None])

    @torch.no_grad()
    def reconstruct(self, image: Tensor) -> Tensor:
        """Return D(E(x)) of images `(B, 1, H, W)` of any size, tile by tile, HU."""
        tiling = Tiling(image.shape[-2], image.shape[-1], self.vae.patch)
        return tiling.blend(torch.stack([self.vae.reconstruct(tiles) for tiles in tiling.cut(image)]))

    @torch.no_grad()
    def _decoded(self, v: Tensor, h: Tensor) -> Tensor:
        """Return patches `(N, T, 1, p, p)` from v `(N, T, d)`, tile by tile so that batches never depend on N or T."""
        codes = self.invert(v, h)
        return torch.stack([self.vae.decode(codes[:, tile]) for tile in range(codes.shape[1])], dim=1)
