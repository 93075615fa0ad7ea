"""Refinement of proposals that no gradient leads onto the fiber: from nearer to the image, where the fiber is known."""

__all__ = ["RETREATS", "retreating"]

from collections.abc import Callable

import torch
from torch import Tensor

from invkit.fiber.refine import Refined

RETREATS = 5  # halvings of a proposal's difference from x


def retreating(attempt: Callable[[Tensor], Refined], x: Tensor, proposals: Tensor) -> tuple[Refined, Tensor]:
    """Return refined samples, begun half as far from x again and again where refinement did not reach the fiber.

    Where a layer is flat, as behind a threshold, no gradient leads back, however near the fiber is. x itself lies on it,
    so a proposal `x + s (proposal - x)` with a smaller s may still reach it. What is certified then is as much a
    member of the fiber as any other, and differs less from x. A proposal that never reaches it stays as it was after the
    first attempt.

    Args:
        attempt: from proposals `(n, 1, H, W)`, HU, to what refinement makes of them.
        x: the image, `(1, 1, H, W)`, HU.
        proposals: `(N, 1, H, W)`, HU.

    Returns:
        What refinement made of all proposals, with steps and products of every attempt counted and
        distances and changes seen from the proposal as it was; and s, `(N,)`: 1, 1/2, 1/4, ...
    """
    found = attempt(proposals)
    share = torch.ones(len(proposals))
    away = ~found.certificates.holds
    part = 1.0
    for _ in range(RETREATS):
        rows = away.nonzero()[:, 0]
        if not len(rows):
            break
        part /= 2
        begun = torch.lerp(x.expand_as(proposals[rows]), proposals[rows], part)
        again = attempt(begun)
        holds = again.certificates.holds
        _count(found, again, rows)
        _take(found, again, rows, holds, proposals)
        share[rows[holds].cpu()] = part
        away[rows[holds]] = False
    return found, share


def _count(found: Refined, nearer: Refined, rows: Tensor) -> None:
    for name in ("steps", "products"):
        counted: Tensor = getattr(found.certificates, name)
        counted[rows.to(counted.device)] += getattr(nearer.certificates, name)


def _take(found: Refined, nearer: Refined, rows: Tensor, holds: Tensor, proposals: Tensor) -> None:
    at = rows[holds]
    found.images[at] = nearer.images[holds]
    found.certificates.after[at] = nearer.certificates.after[holds]
    change = (nearer.images[holds] - proposals[at]).flatten(1).square().mean(1).sqrt()
    found.certificates.moved[at] = change
