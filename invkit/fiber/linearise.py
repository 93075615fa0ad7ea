"""Phi near an image: products with its Jacobian from both sides, at about the cost of Phi."""

__all__ = ["Linearisation", "dot"]

from collections.abc import Callable

import torch
from torch import Tensor

from invkit.errors import SplitError
from invkit.fiber.distance import Activation, as_rows, pieces
from invkit.fiber.tangent import Products, Tangent, differentiable
from invkit.training.precision import in_float64

FEW = 2**20  # numbers whose products a processor's cache holds, or nearly


class Linearisation:
    """Phi(x + d) = Phi(x) + J d to first order, for a batch of images at once.

    J is block-diagonal: image k of the batch acts on activation k alone. Both products are traced once for all images of a
    shape (`Tangent`). Where Phi cannot be traced, `J^T q` is a backward pass, and `J p` the derivative of `J^T q`, which is
    linear in q, at five times the cost.

    Args:
        phi: a differentiable map from images `(N, 1, H, W)` in HU to an activation (`Split.phi_grad`).
        x: where, `(N, 1, H, W)`, HU.
        tangent: of the same phi, which then need not be traced again.

    Raises:
        SplitError: no gradient reaches the image.
    """

    def __init__(
        self, phi: Callable[[Tensor], Activation], x: Tensor, tangent: Tangent | None = None
    ) -> None:
        self._products = (tangent or Tangent(phi)).at(x) or _by_autograd(phi, x)

    def forward(self, p: Tensor) -> tuple[Tensor, ...]:
        """Return J p, in the shapes of z; p: `(N, 1, H, W)`, HU."""
        return self._products.forward(p)

    def transposed(self, q: tuple[Tensor, ...]) -> Tensor:
        """Return J^T q, `(N, 1, H, W)`; q: in the shapes of z."""
        return self._products.transposed(q)


def _by_autograd(phi: Callable[[Tensor], Activation], x: Tensor) -> Products:
    at, z = differentiable(phi, x)
    if not any(part.requires_grad for part in z):
        raise SplitError(
            "no gradient of this layer reaches the image, so nothing can be refined onto its fiber"
        )
    with torch.enable_grad():
        dual = [torch.zeros_like(part).requires_grad_() for part in z]
        (twice,) = torch.autograd.grad(z, at, dual, create_graph=True)
    return Products(
        lambda p: torch.autograd.grad(twice, dual, p, retain_graph=True),
        lambda q: torch.autograd.grad(z, at, q, retain_graph=True)[0],
    )


def dot(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
    """Return the inner products of N pairs, `(N,)`, float64."""
    return torch.stack([_dot(*as_rows(p, q)) for p, q in zip(a, b, strict=True)]).sum(0)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    if a.device.type != "cpu" or a.numel() <= FEW:
        return in_float64(torch.linalg.vecdot(a, b))
    # vecdot writes all products to memory, and where that is taken anew each time it costs eight times as much as their sum.
    rows = [torch.stack([torch.dot(p, q) for p, q in pieces(*pair)]) for pair in zip(a, b, strict=True)]
    return torch.stack(rows).double().sum(1)
