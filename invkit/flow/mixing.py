"""Fixed mixing of dimensions between couplings: a permutation or rotation made from a seed, never stored."""

__all__ = ["Mixing", "Permutation", "Rotation", "make_mixing"]

from collections.abc import Callable
from typing import Literal, Self

import torch
from torch import Tensor

from invkit.flow.base import Part
from invkit.training.seeds import generator

Mixing = Literal["permutation", "rotation"]


class Permutation(Part):
    """v = z_bar in another, fixed order; log_det is 0 and the inverse is exact to the bit.

    Args:
        d: number of dimensions.
        seed: what the order is made from. The order is not stored: it is made again on loading.
    """

    order: Tensor
    back: Tensor

    def __init__(self, d: int, seed: int) -> None:
        super().__init__()
        order = torch.randperm(d, generator=generator(seed, "permutation", d), device="cpu")
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("back", torch.argsort(order), persistent=False)

    def forward(self, z_bar: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Reorder; h is not used."""
        return z_bar.index_select(-1, self.order), z_bar.new_zeros(z_bar.shape[:-1])

    def inverse(self, v: Tensor, h: Tensor) -> Tensor:
        """Restore the order."""
        return v.index_select(-1, self.back)


class Rotation(Part):
    """v = z_bar Q with a fixed orthogonal matrix Q, uniform over all of them (Haar); log_det is 0.

    Q comes from the QR decomposition of a normal matrix in float64, with the signs of R's diagonal fixed, and
    is then cast. It is not stored; after a change of dtype it is made again, so that in float64 it is
    orthogonal to 1e-15.

    Args:
        d: number of dimensions.
        seed: what Q is made from.
    """

    matrix: Tensor

    def __init__(self, d: int, seed: int) -> None:
        super().__init__()
        self.d, self.seed = d, seed
        self.register_buffer("matrix", self._make().float(), persistent=False)

    def _make(self) -> Tensor:
        source = generator(self.seed, "rotation", self.d)
        normal = torch.randn(self.d, self.d, generator=source, dtype=torch.float64, device="cpu")
        q, r = torch.linalg.qr(normal)
        haar: Tensor = q * r.diagonal().sign()
        return haar

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = self.matrix.dtype
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.matrix.dtype != before:
            self.matrix = self._make().to(self.matrix)
        return self

    def forward(self, z_bar: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Rotate; h is not used."""
        return z_bar @ self.matrix, z_bar.new_zeros(z_bar.shape[:-1])

    def inverse(self, v: Tensor, h: Tensor) -> Tensor:
        """Rotate back."""
        return v @ self.matrix.T


def make_mixing(kind: Mixing, d: int, seed: int) -> Part:
    """Return the mixing of this kind for d dimensions."""
    return Permutation(d, seed) if kind == "permutation" else Rotation(d, seed)
