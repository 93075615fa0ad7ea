"""The strongest structure that a layer does not see at the tolerance: alone, and with the most helpful noise beside it."""

__all__ = ["DEVIATIONS", "Hidden", "hidden_with_companion", "largest_unseen", "unseen_distance"]

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from invkit.noise.solve import dot, solve
from invkit.posterior.whitened import Whitened
from invkit.tolerance.layer import Crops, TolerancedLayer
from invkit.tolerance.unit import Parts
from invkit.tolerance.windows import Windows

DEVIATIONS = 2.0  # standard deviations of dose noise, that a companion is rarer than by no more
SECANTS = 6
AT_ONCE = 4  # images
AIM = 0.99  # of the tolerance: a guess that aims at all of it is beyond by rounding as often as not
NEAR = 0.02  # of the contrast, to which it is found
ROUNDS = 20  # of multipliers
ENOUGH = 0.98  # of what is proven to be the most, to first order
POWER = 0.6  # of how far a window is beyond the tolerance; 1 would overshoot
LEAST, MOST = 1e-2, 1e2  # of the same
WITHIN, PRODUCTS = 0.1, 60  # of a round's linear system; the next goes on where it ends


@dataclass(frozen=True)
class Hidden:
    """Structures with the noise that hides them best.

    Args:
        contrast: c, `(N,)`, float64.
        change: c d + n, `(N, 1, h, w)`, HU.
    """

    contrast: Tensor
    change: Tensor


@torch.no_grad()
def largest_unseen(layer: TolerancedLayer, crops: Crops, changes: Tensor) -> Tensor:
    """Return the largest c for which c d moves no window of z of the whole image by more than the tolerance, `(N,)`, float64.

    The linear answer is the start; c is then sought with the layer itself, and the distance at the returned c is at most the
    tolerance.

    Args:
        layer: the layer with its tolerance.
        crops: parts of its image.
        changes: d of each, `(N, 1, h, w)`, HU.
    """
    return _largest(unseen_distance(layer, crops, changes), len(changes), layer.tolerance)


def _largest(distance: Callable[[Tensor], Tensor], count: int, tolerance: float) -> Tensor:
    """Return the largest c of each of `count` changes at which its distance is at most the tolerance."""
    # As small a step as float32 still resolves, for the slope at 0.
    c = torch.full((count,), 0.1, dtype=torch.float64)
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


@torch.no_grad()
def hidden_with_companion(layer: TolerancedLayer, crops: Crops, structures: Tensor, alone: Tensor) -> Hidden:
    """Return the largest c for which c d + n moves no window by more than the tolerance, with n^T C^-1 n <= 4.

    To first order that is convex. With n = A (u - c v), v = A^-1 d, and multipliers m of the windows, u is c (I + G^T G)^-1 v with
    G = M J A, where M^2 is what the multipliers put on every element of z; at the optimum they are those for which the windows
    that they are of are at the tolerance and n is at its bound. They are multiplied by how far their windows are beyond the
    tolerance until what is found is near what they prove to be the most: c^2 (v - u / c)^T v <= 4 + t^2 sum(m) for any
    multipliers. The end is certified with the layer itself.

    Args:
        layer: the layer with its tolerance.
        crops: images, with S of each.
        structures: d, `(N, 1, h, w)`, HU.
        alone: what `largest_unseen` found, which is the least that this returns.
    """
    covariance, windows, tolerance = crops.covariance, crops.windows, layer.tolerance
    white = covariance.whitened(structures)
    at = Whitened(layer.split, crops.images, windows.unit, 1.0, covariance, layer.tangent)
    seen = _powers(windows, at.forward(white))
    most = torch.stack([part.flatten(1).amax(1) for part in seen]).amax(0).clamp(min=1e-30)
    multipliers = tuple((DEVIATIONS / tolerance) ** 2 * part / _rows(most) for part in seen)
    left, best = white, white.clone()
    reached = torch.zeros_like(alone)
    bound = torch.full_like(alone, torch.inf)
    for _ in range(ROUNDS):
        weights = tuple(
            weight * part.sqrt().to(weight.dtype).to(weight.device)
            for weight, part in zip(at.weights, windows.spread(multipliers), strict=True)
        )
        left = solve(at.reweighted(weights).apply, white, within=WITHIN, at_most=PRODUCTS, start=left).x
        companion = dot(left - white, left - white).cpu()
        seen = _powers(windows, at.forward(left))
        furthest = torch.stack([part.flatten(1).amax(1) for part in seen]).amax(0).cpu()
        contrast, _ = _strongest(left, white, tolerance / furthest.sqrt().clamp(min=1e-12))
        better = contrast > reached
        reached, best = torch.where(better, contrast, reached), torch.where(_rows(better, left), left, best)
        total = sum((part.flatten(1).sum(1).cpu() for part in multipliers), torch.zeros_like(alone))
        weighed = sum(
            ((a * b).flatten(1).sum(1).cpu() for a, b in zip(multipliers, seen, strict=True)),
            torch.zeros_like(alone),
        )
        proven = ((DEVIATIONS**2 + tolerance**2 * total) / (companion + weighed).clamp(min=1e-30)).sqrt()
        bound = torch.minimum(bound, proven)
        if bool((reached >= ENOUGH * bound).all()):
            break
        scale = (DEVIATIONS / tolerance) ** 2 / companion.clamp(min=1e-30)
        multipliers = tuple(
            part * (_rows(scale, power) * power).clamp(LEAST, MOST) ** POWER
            for part, power in zip(multipliers, seen, strict=True)
        )
    rest = covariance.root(best)
    distance = unseen_distance(layer, crops, rest)
    contrast, scale = _strongest(best, white, _largest(distance, len(rest), tolerance))
    helps = (distance(scale) <= tolerance) & (contrast > alone)
    by_itself = _rows(alone.to(rest.dtype), rest) * structures
    change = torch.where(_rows(helps, rest), _rows(scale.to(rest.dtype), rest) * rest, by_itself)
    return Hidden(torch.where(helps, contrast, alone), change)


def unseen_distance(layer: TolerancedLayer, crops: Crops, changes: Tensor) -> Callable[[Tensor], Tensor]:
    """Return what gives the distance of the image from itself with c of each change, `(N,)`, float64."""
    whole, z = crops.placed(changes, layer.x), layer.split.phi(layer.x)

    def distance(c: Tensor) -> Tensor:
        moved = layer.x + c.to(whole).view(-1, 1, 1, 1) * whole
        # One after the other, for the image may be large.
        found = [layer.windows.distance(layer.split.phi(one), z) for one in moved.split(AT_ONCE)]
        return torch.cat(found).cpu()

    return distance


def _strongest(left: Tensor, white: Tensor, most: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest c for which s times what is left is at most 2 from c v, with s of at most `most`, and that s.

    Both are `(N,)`, float64.
    """
    length = dot(white, white).cpu().sqrt().clamp(min=1e-30)
    along = dot(left, white).cpu() / length
    across = (dot(left, left).cpu() - along.square()).clamp(min=1e-30).sqrt()
    # Beyond this, more of what is left across v takes more from c than what is left along v adds.
    scale = torch.minimum(most, DEVIATIONS * along / (across * (along.square() + across.square()).sqrt()))
    rest = (DEVIATIONS**2 - (scale * across).square()).clamp(min=0).sqrt()
    return (scale * along + rest) / length, scale


def _powers(windows: Windows, scaled: Parts) -> Parts:
    """Return the mean square of every window, float64."""
    pairs = zip(scaled, windows.sides, strict=True)
    return tuple(windows.of_windows(part, side).square() for part, side in pairs)


def _rows(factor: Tensor, like: Tensor | None = None) -> Tensor:
    """Return one number for each of N as what multiplies `(N, ., .)`, or all of a tensor."""
    if like is None:
        return factor.view(-1, 1, 1)
    return factor.to(like.device).view(-1, *[1] * (like.dim() - 1))
