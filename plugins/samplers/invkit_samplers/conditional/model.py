"""A layer's trained cINN on the codes of a VAE that is given f(x), with everything that belongs to it."""

__all__ = ["ConditionalModel", "estimate_and_output"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from invkit import Split
from invkit.samplers import (
    CINN,
    Activation,
    FlowModel,
    ImageDraws,
    Regressor,
    Tiling,
    estimate_image,
    generator,
    invariances,
    to_device,
)
from invkit_samplers.conditional.code import ConditionalVae


@torch.no_grad()
def estimate_and_output(
    split: Split,
    regressor: Regressor,
    z: Activation,
    size: Sequence[int],
    *,
    stages: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return g(z) and Psi(z), each `(B, 1, H, W)`, HU: what z says of x and of f(x).

    For a cut, Psi(z) is f(x). Where a skip connection bypasses the layer, g(z) takes the place of x there, so that what is
    given to E and D is a function of z and as near to f(x) as z tells. `const` has no Psi(z); g(z), the same for all
    images, stands for it.

    Args:
        split: the layer.
        regressor: g.
        z: an activation, batch `B`.
        size: `(H, W)` of the images.
        stages: of g's descent, at most; by default as many as make conditions.
    """
    estimate = estimate_image(split, regressor, z, size, stages=stages)
    return estimate, estimate if split.layer == "const" else split.psi(z, estimate)


@dataclass(frozen=True)
class ConditionalModel(FlowModel):
    """t(z_bar | z) for one layer, with z_bar = E(x, f(x)) and x_bar = f(x) + D(z_bar, f(x)), where f(x) = Psi(z).

    The condition of z is the code of the image estimated from it, `c = E(g(z), Psi(z))`.

    `const` does not know f(x). Its flow is one of the same codes, so that all likelihoods are of the same thing; its draws
    take f of another image, a training patch that seed and index decide: together they are draws of p(x).

    Args:
        vae: E and D; of the target domain.
        others: f of training patches, `(n, 1, patch, patch)`, HU.
        cinn: t.
        held_out: what else the file keeps of held-out patches, by name.
    """

    vae: ConditionalVae
    others: Tensor
    cinn: CINN
    held_out: Mapping[str, Tensor] = field(default_factory=dict)

    @torch.no_grad()
    def prepare(self, z: Activation, size: Sequence[int]) -> ImageDraws:
        """Return what draws images of a size `(H, W)` given an activation `(1, ...)`, tile by tile."""
        tiling = Tiling(size[0], size[1], self.vae.patch)
        output, h = self._embedded(z, tiling)
        tiles = range(len(tiling))
        # What the draws of a tile scatter around; tiles are drawn independently.
        still = self.cinn.inverse(torch.zeros(1, len(tiling), self.vae.d, device=h.device), h)
        centre = torch.stack([self.vae.decode(still[:, tile], output[tile, None]) for tile in tiles], dim=1)

        @torch.no_grad()
        def draws(seed: int, image: int, indices: Sequence[int]) -> Tensor:
            v = torch.stack([invariances(seed, image, tile, indices, self.vae.d) for tile in tiles], dim=1)
            codes = self.cinn.inverse(to_device(v, h.device), h)
            # Tile by tile, so that batches depend on neither the number of draws nor that of tiles.
            patches = [
                self.vae.decode(codes[:, tile], self._given(output[tile, None], seed, image, tile, indices))
                for tile in tiles
            ]
            return tiling.blend_draws(torch.stack(patches, dim=1), centre)

        return draws

    @torch.no_grad()
    def swap(self, image: Tensor, z: Activation, other: Activation) -> Tensor:
        """Return D(t^-1(v | other), Psi(other)) with v = t(E(image, Psi(z)) | z), `(1, 1, H, W)`, HU.

        To `const`, f(image) is part of what z does not say, so the image keeps it.
        """
        tiling = Tiling(image.shape[-2], image.shape[-1], self.vae.patch)
        own, h = self._embedded(z, tiling)
        target, h_other = self._embedded(other, tiling)
        if self.split.layer == "const":
            own = target = tiling.cut(self.split.denoiser(image))[0]
        v, _ = self.cinn(self.vae.encode(tiling.cut(image)[0], own).mean, h)
        return self._blended(v, h_other, target, tiling)

    @torch.no_grad()
    def scaled(self, image: Tensor, z: Activation, factor: float) -> Tensor:
        """Return D(t^-1(a v | z), Psi(z)) with v = t(E(image, Psi(z)) | z), `(1, 1, H, W)`, HU."""
        tiling = Tiling(image.shape[-2], image.shape[-1], self.vae.patch)
        output, h = self._embedded(z, tiling)
        if self.split.layer == "const":
            output = tiling.cut(self.split.denoiser(image))[0]
        v, _ = self.cinn(self.vae.encode(tiling.cut(image)[0], output).mean, h)
        return self._blended(factor * v, h, output, tiling)

    @torch.no_grad()
    def reconstruct(self, image: Tensor) -> Tensor:
        """Return x_bar of the codes of images `(B, 1, H, W)` of any size, tile by tile, HU; in each, E and D are given its f(x)."""
        tiling = Tiling(image.shape[-2], image.shape[-1], self.vae.patch)
        return torch.cat([tiling.blend(self._reconstructed(one[None], tiling)[None]) for one in image])

    def _blended(self, v: Tensor, h: Tensor, output: Tensor, tiling: Tiling) -> Tensor:
        """Return the image of v on each tile, `(T, d)`, given Psi(z) on them."""
        return tiling.blend(self.vae.decode(self.cinn.inverse(v[None], h)[0], output)[None])

    def _reconstructed(self, image: Tensor, tiling: Tiling) -> Tensor:
        """Return x_bar of the tiles of one image, `(T, 1, patch, patch)`, HU."""
        size = (image.shape[-2], image.shape[-1])
        if self.split.layer == "const":
            output = self.split.denoiser(image)
        else:
            _, output = estimate_and_output(self.split, self.regressor, self.split.phi(image), size)
        return self.vae.reconstruct(tiling.cut(image)[0], tiling.cut(output)[0])

    def _embedded(self, z: Activation, tiling: Tiling) -> tuple[Tensor, Tensor]:
        """Return Psi(z) on each tile, `(T, 1, patch, patch)` in HU, and h of each, `(T, k)`."""
        estimate, output = (
            tiling.cut(maps)[0] for maps in estimate_and_output(self.split, self.regressor, z, tiling.size)
        )
        posterior = self.vae.encode(estimate, output)
        return output, self.cinn.embed(torch.cat([posterior.mean, posterior.log_var], dim=1))

    def _given(self, output: Tensor, seed: int, image: int, tile: int, indices: Sequence[int]) -> Tensor:
        """Return what D is given for each draw of a tile, `(n, 1, patch, patch)`, HU: Psi(z), or for `const` another's."""
        if self.split.layer != "const":
            return output.expand(len(indices), -1, -1, -1)
        chosen = [
            torch.randint(len(self.others), (1,), generator=generator(seed, "others", image, tile, k))
            for k in indices
        ]
        return self.others[to_device(torch.cat(chosen), self.others.device)]
