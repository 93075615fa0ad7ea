"""Conjugate gradients for several systems at once."""

__all__ = ["Solution", "dot", "solve"]

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from invkit.training.precision import in_float64

Apply = Callable[[Tensor], Tensor]
AT_MOST = 500


@dataclass(frozen=True)
class Solution:
    """Solutions of M x = b.

    Args:
        x: `(N, ...)`.
        residual: norm of b - M x over that of b, `(N,)`, float64, as the recurrence has it.
        products: with M.
    """

    x: Tensor
    residual: Tensor
    products: int


@torch.no_grad()
def solve(
    apply: Apply,
    b: Tensor,
    *,
    within: float,
    at_most: int = AT_MOST,
    preconditioner: Apply | None = None,
    start: Tensor | None = None,
) -> Solution:
    """Solve M x = b for N right-hand sides by preconditioned conjugate gradients (Hestenes, Stiefel 1952).

    Args:
        apply: M, symmetric and positive definite, acting on each of `(N, ...)` alone.
        b: right-hand sides, `(N, ...)`.
        within: relative residual at which a system is solved.
        at_most: products with M.
        preconditioner: an approximate inverse of M, symmetric and positive definite.
        start: a first x; 0 by default.
    """
    inverse = preconditioner or (lambda residual: residual)
    x = torch.zeros_like(b) if start is None else start.clone()
    residual = b - apply(x) if start is not None else b.clone()
    norm = dot(b, b).sqrt()
    goal = within * norm
    z = inverse(residual)
    direction, rho = z.clone(), dot(residual, z)
    products = 0 if start is None else 1
    while products < at_most:
        left = dot(residual, residual).sqrt()
        going = left > goal
        if not bool(going.any()):
            break
        image = apply(direction)
        products += 1
        curvature = dot(direction, image)
        step = torch.where(going & (curvature > 0), rho / curvature.clamp(min=1e-300), 0.0)
        x.addcmul_(_like(step, x), direction)
        residual.addcmul_(_like(-step, image), image)
        z = inverse(residual)
        new = dot(residual, z)
        direction = torch.addcmul(z, _like(new / rho.clamp(min=1e-300), direction), direction)
        rho = new
    left = dot(residual, residual).sqrt()
    return Solution(x, left / norm.clamp(min=1e-300), products)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Return inner products, `(N,)`, float64."""
    found: Tensor = torch.linalg.vecdot(in_float64(a.flatten(1)), in_float64(b.flatten(1)))
    return found


def _like(factor: Tensor, rows: Tensor) -> Tensor:
    return factor.to(rows).view(-1, *[1] * (rows.dim() - 1))
