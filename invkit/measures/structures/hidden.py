"""The strongest structure that a layer does not see at the tolerance: alone, and with the most helpful noise beside it."""

__all__ = ["DEVIATIONS", "hidden_alone", "hidden_with_companion"]

from dataclasses import replace

import torch
from torch import Tensor

from invkit.fiber.distance import Activation
from invkit.posterior.whitened import Whitened
from invkit.split.split import Split
from invkit.tolerance.layer import Crops, TolerancedLayer
from invkit.training.precision import in_float64

DEVIATIONS = 2.0  # standard deviations of dose noise, that a companion is rarer than by no more
SECANTS = 6
AIM = 0.99  # of the tolerance: a guess that aims at all of it is beyond by rounding as often as not
NEAR = 0.02  # of the contrast, to which it is found
MULTIPLIERS = 10
WITHIN, PRODUCTS = 1e-2, 60  # of the search for a companion; its end is certified whatever they are


@torch.no_grad()
def hidden_alone(split: Split, crops: Crops, structures: Tensor, tolerance: float) -> Tensor:
    """Return the largest c for which c d moves no window of z by more than the tolerance, `(N,)`, float64.

    The linear answer is the start; c is then sought with the layer itself, and the distance at the returned c is at most the
    tolerance.

    Args:
        split: the layer.
        crops: images, with S of each.
        structures: d, `(N, 1, h, w)`, HU.
        tolerance: in units of S.
    """
    return _largest(split, crops, structures, tolerance)


@torch.no_grad()
def hidden_with_companion(layer: TolerancedLayer, crops: Crops, structures: Tensor, alone: Tensor) -> Tensor:
    """Return the largest c for which c d + n moves no window by more than the tolerance, with n^T C^-1 n <= 4, `(N,)`, float64.

    To first order, the n that hides c d best in the mean over all of z is c A (u - v), with v = A^-1 d and
    u = (I + G^T G)^-1 v at some sigma: of c d, c A u is left. sigma is sought for which the bound on n and the tolerance are
    reached together, and the end is certified with the layer itself.

    Args:
        layer: the layer with its tolerance.
        crops: images, with S of each.
        structures: d, `(N, 1, h, w)`, HU.
        alone: what `hidden_alone` found, which is the least that this returns.
    """
    covariance, tolerance = crops.covariance, layer.tolerance
    white = covariance.whitened(structures)
    z = layer.split.phi(crops.images)
    best = alone.clone()
    low = torch.full_like(alone, 0.1 * tolerance)
    high = torch.full_like(alone, 100 * tolerance)
    for _ in range(MULTIPLIERS):
        sigma = (low * high).sqrt()
        unit = crops.windows.unit
        # One sigma for each structure: as a factor of its S.
        scaled = tuple(s * (sigma.to(s) / tolerance).view(-1, *[1] * (s.dim() - 1)) for s in unit.s)
        at = Whitened(
            layer.split,
            crops.images,
            replace(unit, s=scaled),
            tolerance,
            covariance,
            layer.tangent,
        )
        left = at.solve(white, within=WITHIN, at_most=PRODUCTS).x
        del at  # or the next linearisation would lie beside this one
        companion = in_float64((left - white).flatten(1)).square().sum(1).sqrt().cpu()
        by_noise = DEVIATIONS / companion.clamp(min=1e-12)
        rest = covariance.root(left)
        by_tolerance = _largest(layer.split, crops, rest, tolerance, z=z)
        best = torch.maximum(best, torch.minimum(by_noise, by_tolerance))
        if bool(((by_noise - by_tolerance).abs() <= NEAR * by_noise).all()):
            break
        seen = by_tolerance < by_noise  # more of the structure must be cancelled, so sigma falls
        low, high = torch.where(seen, low, sigma), torch.where(seen, sigma, high)
    return best


def _largest(
    split: Split, crops: Crops, changes: Tensor, tolerance: float, *, z: Activation | None = None
) -> Tensor:
    """Return the largest c for which c times a change keeps every window within the tolerance, as Phi itself has it."""
    here = split.phi(crops.images) if z is None else z

    def distance(c: Tensor) -> Tensor:
        moved = crops.images + c.to(changes).view(-1, 1, 1, 1) * changes
        return crops.windows.distance(split.phi(moved), here).cpu()

    # As small a step as float32 still resolves, for the slope at 0.
    c = torch.full((len(changes),), 0.1, dtype=torch.float64)
    c = 0.1 * tolerance / distance(c).clamp(min=1e-12)
    low, high = torch.zeros_like(c), torch.full_like(c, torch.inf)
    for _ in range(SECANTS):
        found = distance(c)
        low = torch.where(found <= tolerance, torch.maximum(low, c), low)
        high = torch.where(found > tolerance, torch.minimum(high, c), high)
        guess = c * AIM * tolerance / found.clamp(min=1e-12)
        # A guess beyond what is known to be too much, or less than what is known to pass, halves what lies between.
        guess = torch.where(guess >= high, (low + high) / 2, guess)
        c = torch.where(guess <= low, torch.where(high.isinf(), 2 * low, (low + high) / 2), guess)
        if bool(((high - low) <= NEAR * high).all()):
            break
    return low
