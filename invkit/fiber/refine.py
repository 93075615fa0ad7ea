"""Refinement onto the fiber: from a sample to an image that the layer provably cannot tell from x."""

__all__ = ["Certificates", "Limits", "Refined", "refine"]

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from invkit.fiber.distance import Activation, parts_of
from invkit.fiber.linearise import Linearisation, dot
from invkit.fiber.metric import Metric, root_mean_square
from invkit.fiber.tangent import Tangent

HALVINGS = 5
PROGRESS = 0.5  # of the residual, that must be left at most before a step may end for being slow
SLACK = 0.95  # of the best rate of progress so far, at which a step goes on
OVERHEAD = 1.5  # what a step costs besides its products, in products
ENOUGH = 0.1  # of the residual, left by a step's linear problem: Phi is linear in a neighbourhood only
AIM = 0.8  # of epsilon: the rest is for what Phi is curved by; and the less, the less of a spread is what epsilon allows


@dataclass(frozen=True)
class Limits:
    """How long is searched.

    Args:
        steps: Gauss-Newton steps.
        products: pairs of products with J and its transpose in one step.
    """

    steps: int = 30
    products: int = 60


LIMITS, PLAIN = Limits(), Metric()


@dataclass(frozen=True)
class Certificates:
    """What is known of each refined sample.

    Args:
        before: distance of Phi from z before refinement, `(N,)`, in the metric's unit.
        after: the same afterwards, computed in full precision by Phi itself.
        moved: root mean square change of the image, `(N,)`, HU.
        steps: Gauss-Newton steps, `(N,)`.
        products: pairs of products with the Jacobian and its transpose, `(N,)`.
        epsilon: what `after` had to reach.
    """

    before: Tensor
    after: Tensor
    moved: Tensor
    steps: Tensor
    products: Tensor
    epsilon: float

    @property
    def holds(self) -> Tensor:
        """Which samples lie in the epsilon-fiber, `(N,)`."""
        return self.after <= self.epsilon


@dataclass(frozen=True)
class Refined:
    """Samples after refinement.

    Args:
        images: `(N, 1, H, W)`, HU.
        certificates: one entry for each.
    """

    images: Tensor
    certificates: Certificates


@torch.no_grad()
def refine(
    phi: Callable[[Tensor], Activation],
    phi_grad: Callable[[Tensor], Activation],
    images: Tensor,
    z: Activation,
    epsilon: float,
    *,
    limits: Limits = LIMITS,
    tangent: Tangent | None = None,
    metric: Metric = PLAIN,
) -> Refined:
    """Move each image as little as possible until Phi of it is z to within epsilon.

    Gauss-Newton: each step solves `J d = z - Phi(x)` for the smallest d by conjugate gradients on the normal equations
    (CGLS; Bjorck, Elfving, Strakos 1998), no further than linearity reaches, and halves d until the distance falls.

    Args:
        phi: the layer, without gradient, in full precision (`Split.phi`).
        phi_grad: the same, differentiable with respect to the image (`Split.phi_grad`).
        images: proposals, `(N, 1, H, W)`, HU.
        z: the activation whose fiber is sought, `(1, ...)`.
        epsilon: largest distance from z, in the metric's unit.
        limits: of the search.
        tangent: of `phi_grad`, where it was traced before.
        metric: what distance is; by default the root mean square in the unit of the activation. Steps are of least squares
            whatever its norm: the least change of the image for the weighted residual as a whole.

    Raises:
        SplitError: no gradient of the layer reaches the image.
    """
    tangent = tangent or Tangent(phi_grad)
    target = parts_of(z)
    x = images.clone()
    n = len(x)
    residual = metric.difference(target, parts_of(phi(x)))
    distance = metric.norm(residual)
    before = distance.clone()
    steps, products = (torch.zeros(n, dtype=torch.int64) for _ in range(2))
    stuck = torch.zeros(n, dtype=torch.bool, device=distance.device)
    for _ in range(limits.steps):
        active = ((distance > epsilon) & ~stuck).nonzero()[:, 0]
        if not len(active):
            break
        at = Linearisation(phi_grad, x[active], tangent)
        left = tuple(part[active] for part in residual)
        wanted = (AIM * epsilon / distance[active]).clamp(min=ENOUGH)
        direction, used = _least_norm(at, metric, left, wanted, limits.products)
        del at
        steps[active.cpu()] += 1
        products[active.cpu()] += used.cpu()
        whole = root_mean_square(left)
        moved, remaining, reached = _backtrack(phi, metric, x[active], direction, target, whole)
        better = reached < whole
        rows = active[better]
        x[rows] = moved[better]
        for part, new in zip(residual, remaining, strict=True):
            part[rows] = new[better]
        if len(rows):
            distance[rows] = metric.norm(tuple(part[rows] for part in residual))
        stuck[active] = ~better
    change = (x - images).flatten(1).square().mean(1).sqrt()
    return Refined(x, Certificates(before, distance, change, steps, products, epsilon))


def _least_norm(
    at: Linearisation,
    metric: Metric,
    residual: tuple[Tensor, ...],
    wanted: Tensor,
    products: int,
) -> tuple[Tensor, Tensor]:
    """Return a small d with |J d - r| = wanted |r|, `(N, 1, H, W)`, and the products it took, `(N,)`.

    The last step of CGLS is cut short where the residual is as wanted, because every further one lessens what
    epsilon leaves free. It ends earlier where its mean rate of progress falls: the rest of the residual is then what the
    linearisation is wrong by, and a new one comes nearer for less.
    """

    def slope(residual: tuple[Tensor, ...]) -> Tensor:
        found = at.transposed(metric.weighted(residual))
        return found if metric.where is None else found * metric.where

    gradient = slope(residual)
    direction, p = torch.zeros_like(gradient), gradient
    gamma = dot((gradient,), (gradient,))
    goal = wanted.square() * dot(residual, residual)
    left, rest = tuple(part.clone() for part in residual), dot(residual, residual)
    used = torch.zeros(len(gradient), dtype=torch.int64, device=gamma.device)
    going = gamma > 0
    first, fastest = rest, torch.zeros_like(rest)
    for number in range(1, products + 1):
        q = metric.weighted(at.forward(p))
        curvature = dot(q, q)
        going = going & (curvature > 0)
        alpha = torch.where(going, gamma / curvature.clamp(min=1e-300), 0.0)
        spare = (goal - (rest - alpha * gamma)).clamp(min=0)
        alpha = torch.where(going, alpha - (spare / curvature.clamp(min=1e-300)).sqrt(), 0.0).clamp(min=0)
        direction.addcmul_(_like(alpha, p), p)
        # In place: activations are large, and fresh memory costs more than the sum.
        for part, change in zip(left, q, strict=True):
            part.addcmul_(_like(-alpha, change), change)
        used += going
        rest = (rest - 2 * alpha * gamma + alpha.square() * curvature).clamp(min=0)
        rate = (first / rest.clamp(min=1e-300)).log() / (number + OVERHEAD)
        slow = (rate <= SLACK * fastest) & (rest <= PROGRESS**2 * first)
        going = going & (spare == 0) & (rest > goal) & ~slow
        fastest = torch.maximum(fastest, rate)
        if not bool(going.any()):
            break
        gradient = slope(left)
        new = dot((gradient,), (gradient,))
        p = torch.addcmul(gradient, _like(new / gamma.clamp(min=1e-300), p), p)
        gamma = new
    return direction, used


def _backtrack(
    phi: Callable[[Tensor], Activation],
    metric: Metric,
    x: Tensor,
    direction: Tensor,
    target: tuple[Tensor, ...],
    whole: Tensor,
) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
    """Return x + t d with the largest t of 1, 1/2, 1/4, ... that lessens the residual as a whole, with it and its size."""
    t = torch.ones_like(whole)
    for _ in range(HALVINGS):
        moved = torch.addcmul(x, _like(t, direction), direction)
        residual = metric.difference(target, parts_of(phi(moved)))
        reached = root_mean_square(residual)
        worse = ~(reached < (1 - 0.1 * t) * whole)
        if not bool(worse.any()):
            break
        t = torch.where(worse, t / 2, t)
    return moved, residual, reached


def _like(factor: Tensor, images: Tensor) -> Tensor:
    """Return one factor for each image in a shape that multiplies images."""
    return factor.to(images).view(-1, *[1] * (images.dim() - 1))
