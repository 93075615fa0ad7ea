"""A layer's trained flow in residual coordinates r = x - Psi(z): tiles of r in a code that loses nothing."""

__all__ = ["ResidualModel", "base_of"]

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from invkit import Split
from invkit.samplers import CINN, Activation, FlowModel, ImageDraws, Tiling, invariances, to_device
from invkit_samplers.residual.tile_code import TileCode


@torch.no_grad()
def base_of(split: Split, z: Activation, size: Sequence[int]) -> Tensor:
    """Return what residuals of a layer are counted from, `(B, 1, H, W)`, HU: Psi(z), or 0 for `const`, which has none.

    Psi(z) is f(x) for a cut, so r = x - Psi(z) is a shift that z decides: likelihoods stay what they are.

    Args:
        split: the layer.
        z: an activation, batch `B`.
        size: `(H, W)` of the images.
    """
    first = z[0] if isinstance(z, tuple) else z
    carrier = torch.zeros(len(first), 1, *size, device=first.device)
    return carrier if split.layer == "const" else split.psi(z, carrier)


@dataclass(frozen=True)
class ResidualModel(FlowModel):
    """t(code of a tile of r | z) for one layer, and the regressor g whose estimate is part of the condition.

    A tile's cosine transform is in the place of E and D of `LayerModel`. An image is drawn as
    overlapping tiles whose draws are independent. Likelihoods are in nats per number of a tile's code.
    """

    code: TileCode
    cinn: CINN

    @torch.no_grad()
    def prepare(self, z: Activation, size: Sequence[int]) -> ImageDraws:
        """Return what draws images Psi(z) + r of a size `(H, W)` given an activation `(1, ...)`."""
        tiling = self._tiling(size)
        base = base_of(self.split, z, size)
        h = self._embedded(z, base, tiling)
        centre = self._decoded(torch.zeros(1, len(tiling), self.code.d, device=h.device), h)

        @torch.no_grad()
        def draws(seed: int, image: int, indices: Sequence[int]) -> Tensor:
            v = [invariances(seed, image, tile, indices, self.code.d) for tile in range(len(tiling))]
            return base + tiling.blend_draws(
                self._decoded(to_device(torch.stack(v, dim=1), h.device), h), centre
            )

        return draws

    @torch.no_grad()
    def swap(self, image: Tensor, z: Activation, other: Activation) -> Tensor:
        """Return Psi(other) + r' with r' of the same v as r = image - Psi(z), but given the other z, `(1, 1, H, W)`, HU."""
        size = (image.shape[-2], image.shape[-1])
        tiling = self._tiling(size)
        base, target = (base_of(self.split, each, size) for each in (z, other))
        codes = self.code.encode(tiling.cut(image - base)[0])
        v, _ = self.cinn(codes, self._embedded(z, base, tiling))
        return target + tiling.blend(self._decoded(v[None], self._embedded(other, target, tiling)))

    def reconstruct(self, image: Tensor) -> Tensor:
        """Return what the representation keeps of an image: all of it."""
        return image

    def _tiling(self, size: Sequence[int]) -> Tiling:
        return Tiling(size[0], size[1], self.code.side, overlap=self.code.side // 2)

    def _embedded(self, z: Activation, base: Tensor, tiling: Tiling) -> Tensor:
        """Return h of each tile, `(T, k)`."""
        estimate = self.estimate(z, base.shape[-2:])
        places = torch.tensor(tiling.corners)
        base, estimate = (tiling.pad(part).expand(len(tiling), -1, -1, -1) for part in (base, estimate))
        return self.cinn.embed(self.code.condition(base, estimate, places))

    def _decoded(self, v: Tensor, h: Tensor) -> Tensor:
        """Return tiles of r `(N, T, 1, side, side)` from v `(N, T, d)`, HU."""
        codes = self.cinn.inverse(v, h)
        return self.code.decode(codes.flatten(0, 1)).view(*v.shape[:2], 1, self.code.side, self.code.side)
