"""Condition of a layer's derivative on the interior: how differently it scales changes of the image."""

__all__ = ["RESOLVED", "Condition", "condition_of", "extreme_singular_values"]

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from invkit.fiber.linearise import Linearisation
from invkit.tolerance.frame import LEAST_INTERIOR
from invkit.tolerance.layer import AROUND, TolerancedLayer
from invkit.training.precision import sum_in_float64

Parts = tuple[Tensor, ...]
PRODUCTS = 72  # pairs of products with J and its transpose
EVERY = 8  # of them, it is tried whether the values have converged
WITHIN = 0.1  # of the smallest singular value, its residual
RESOLVED = 1e6  # condition beyond which products in float32 tell nothing


@dataclass(frozen=True)
class Condition:
    """Largest over smallest singular value.

    Args:
        value: found with vectors at hand, so it is never too large.
        at_least: whether it is only known to be no less.
    """

    value: float
    at_least: bool

    def figures(self) -> Mapping[str, Any]:
        """Return the figures by their keys."""
        return {"value": self.value, "at_least": self.at_least}


@torch.no_grad()
def condition_of(layer: TolerancedLayer) -> Condition | None:
    """Return the condition of S^-1 J for changes of the image in its middle, no nearer to the border than the frame.

    S has z in units of what a repeat scan changes at each position, so the condition is 1 for the image itself in place of z,
    and no scale that a network gives its channels counts. `None` where the interior is too small.

    Args:
        layer: a layer at an image.
    """
    if not layer.frame.enough:
        return None
    frame = layer.frame.pixels or 0
    middle = torch.tensor([[(part.start + part.stop) // 2 for part in layer.frame.interior]])
    crop = layer.crops(middle, max(AROUND, LEAST_INTERIOR + 2 * frame))
    rows, columns = crop.images.shape[-2:]
    inside = (..., slice(frame, rows - frame), slice(frame, columns - frame))
    s = crop.windows.unit.s
    at = Linearisation(layer.split.phi_grad, crop.images, layer.tangent)
    change = torch.zeros_like(crop.images)
    shape = change[inside].shape
    if sum(part[0].numel() for part in s) < math.prod(shape):
        return Condition(RESOLVED, at_least=True)  # fewer numbers than pixels: some change is not seen at all

    def forward(v: Tensor) -> Parts:
        change[inside] = v.view(shape).to(change)
        return tuple(part / unit for part, unit in zip(at.forward(change), s, strict=True))

    def transposed(q: Parts) -> Tensor:
        seen = at.transposed(tuple(part / unit for part, unit in zip(q, s, strict=True)))
        return seen[inside].flatten().cpu().double()

    largest, smallest, converged = extreme_singular_values(
        forward, transposed, math.prod(shape), products=PRODUCTS, within=WITHIN
    )
    if largest == 0:
        return None
    if smallest * RESOLVED <= largest:
        return Condition(RESOLVED, at_least=True)
    return Condition(largest / smallest, at_least=not converged)


def extreme_singular_values(
    forward: Callable[[Tensor], Parts],
    transposed: Callable[[Parts], Tensor],
    size: int,
    *,
    products: int,
    within: float,
) -> tuple[float, float, bool]:
    """Return the largest and the smallest singular value of G, and whether they have converged.

    Golub and Kahan's bidiagonalisation with reorthogonalisation of one side (Simon, Zha 2000): the largest is never too large, the
    smallest never too small. They have converged where G^T u differs from the smallest times v by no more than `within` of it.

    Args:
        forward: G v, for v `(size,)`, float64.
        transposed: G^T q, `(size,)`, float64, on the CPU.
        size: columns of G.
        products: pairs of products, at most.
        within: relative residual.
    """
    v = torch.randn(size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    basis = (v / v.norm())[None]
    above: list[float] = []  # the diagonal of the bidiagonal matrix, and what stands right of it
    beside: list[float] = []
    u = forward(basis[0])
    largest = smallest = 0.0
    for count in range(1, min(products, size) + 1):
        above.append(_norm(u))
        seen = above[-1] * RESOLVED > max(above)
        rest = torch.zeros_like(basis[0])
        if seen:
            u = tuple(part / above[-1] for part in u)
            rest = transposed(u) - above[-1] * basis[-1]
            for _ in range(2):
                rest = rest - basis.T @ (basis @ rest)
        beta = float(rest.norm())
        whole = count == size or beta * RESOLVED <= max(above)
        if whole or count % EVERY == 0 or count == products:
            diagonal, right = (torch.tensor(row, dtype=torch.float64) for row in (above, beside))
            left, values, _ = torch.linalg.svd(torch.diag(diagonal) + torch.diag(right, 1))
            largest, smallest = float(values[0]), float(values[-1]) if seen else 0.0
            if whole or beta * float(left[-1, -1].abs()) <= within * smallest:
                return largest, smallest, True
        beside.append(beta)
        basis = torch.cat([basis, (rest / beta)[None]])
        u = tuple(part - beta * old for part, old in zip(forward(basis[-1]), u, strict=True))
    return largest, smallest, False


def _norm(parts: Parts) -> float:
    return math.sqrt(sum(float(sum_in_float64(part.square().flatten(), 0)) for part in parts))
