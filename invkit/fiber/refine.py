"""Refinement onto the fiber: from a sample to an image that the layer provably cannot tell from x."""

__all__ = ["Certificates", "Refined", "refine"]

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from invkit.fiber.distance import Activation, parts_of
from invkit.fiber.linearise import Linearisation, dot
from invkit.fiber.tangent import Tangent

STEPS = 30  # Gauss-Newton
PRODUCTS = 60  # pairs of products with J and its transpose in one step
HALVINGS = 5
PROGRESS = 0.5  # of the residual, that must be left at most before a step may end for being slow
SLACK = 0.95  # of the best rate of progress so far, at which a step goes on
OVERHEAD = 1.5  # what a step costs besides its products, in products
ENOUGH = 0.1  # of the residual, left by a step's linear problem: Phi is linear in a neighbourhood only
AIM = 0.8  # of epsilon: the rest is for what Phi is curved by; and the less, the less of a spread is what epsilon allows


@dataclass(frozen=True)
class Certificates:
    """What is known of each refined sample.

    Args:
        before: distance of Phi from z before refinement, `(N,)`, units of the activation (root mean square).
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
    steps_at_most: int = STEPS,
    products_at_most: int = PRODUCTS,
    tangent: Tangent | None = None,
) -> Refined:
    """Move each image as little as possible until Phi of it is z to within epsilon.

    Gauss-Newton: each step solves `J d = z - Phi(x)` for the smallest d by conjugate gradients on the normal equations
    (CGLS; Bjorck, Elfving, Strakos 1998), no further than linearity reaches, and halves d until the distance falls.

    Args:
        phi: the layer, without gradient, in full precision (`Split.phi`).
        phi_grad: the same, differentiable with respect to the image (`Split.phi_grad`).
        images: proposals, `(N, 1, H, W)`, HU.
        z: the activation whose fiber is sought, `(1, ...)`.
        epsilon: largest root mean square distance from z, units of the activation.
        steps_at_most: Gauss-Newton steps.
        products_at_most: pairs of products with J and its transpose in one step.
        tangent: of `phi_grad`, where it was traced before.

    Raises:
        SplitError: no gradient of the layer reaches the image.
    """
    tangent = tangent or Tangent(phi_grad)
    target = parts_of(z)
    size = sum(math.prod(part.shape[1:]) for part in target)
    x = images.clone()
    n = len(x)
    residual = _minus(target, parts_of(phi(x)))
    distance = _norm(residual, size)
    before = distance.clone()
    steps, products = (torch.zeros(n, dtype=torch.int64) for _ in range(2))
    stuck = torch.zeros(n, dtype=torch.bool, device=distance.device)
    for _ in range(steps_at_most):
        active = ((distance > epsilon) & ~stuck).nonzero()[:, 0]
        if not len(active):
            break
        at = Linearisation(phi_grad, x[active], tangent)
        left = tuple(part[active] for part in residual)
        wanted = (AIM * epsilon / distance[active]).clamp(min=ENOUGH)
        direction, used = _least_norm(at, left, wanted, products_at_most)
        del at
        steps[active.cpu()] += 1
        products[active.cpu()] += used.cpu()
        moved, remaining, reached = _backtrack(phi, x[active], direction, target, distance[active], size)
        better = reached < distance[active]
        rows = active[better]
        x[rows] = moved[better]
        distance[rows] = reached[better]
        for part, new in zip(residual, remaining, strict=True):
            part[rows] = new[better]
        stuck[active] = ~better
    change = (x - images).flatten(1).square().mean(1).sqrt()
    return Refined(x, Certificates(before, distance, change, steps, products, epsilon))


def _least_norm(
    at: Linearisation, residual: tuple[Tensor, ...], wanted: Tensor, products: int
) -> tuple[Tensor, Tensor]:
    """Return a small d with |J d - r| = wanted |r|, `(N, 1, H, W)`, and the products it took, `(N,)`.

    The last step of CGLS is cut short where the residual is as wanted, because every further one lessens what
    epsilon leaves free. It ends earlier where its mean rate of progress falls: the rest of the residual is then what the
    linearisation is wrong by, and a new one comes nearer for less.
    """
    gradient = at.transposed(residual)
    direction, p = torch.zeros_like(gradient), gradient
    gamma = dot((gradient,), (gradient,))
    goal = wanted.square() * dot(residual, residual)
    left, rest = tuple(part.clone() for part in residual), dot(residual, residual)
    used = torch.zeros(len(gradient), dtype=torch.int64, device=gamma.device)
    going = gamma > 0
    first, fastest = rest, torch.zeros_like(rest)
    for number in range(1, products + 1):
        q = at.forward(p)
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
        gradient = at.transposed(left)
        new = dot((gradient,), (gradient,))
        p = torch.addcmul(gradient, _like(new / gamma.clamp(min=1e-300), p), p)
        gamma = new
    return direction, used


def _backtrack(
    phi: Callable[[Tensor], Activation],
    x: Tensor,
    direction: Tensor,
    target: tuple[Tensor, ...],
    distance: Tensor,
    size: int,
) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
    """Return x + t d with the largest t of 1, 1/2, 1/4, ... that lessens the distance, its residual and distance."""
    t = torch.ones_like(distance)
    for _ in range(HALVINGS):
        moved = torch.addcmul(x, _like(t, direction), direction)
        residual = _minus(target, parts_of(phi(moved)))
        reached = _norm(residual, size)
        worse = ~(reached < (1 - 0.1 * t) * distance)
        if not bool(worse.any()):
            break
        t = torch.where(worse, t / 2, t)
    return moved, residual, reached


def _minus(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(one - other for one, other in zip(a, b, strict=True))


def _norm(residual: tuple[Tensor, ...], size: int) -> Tensor:
    return (dot(residual, residual) / size).sqrt()


def _like(factor: Tensor, images: Tensor) -> Tensor:
    """Return one factor for each image in a shape that multiplies images."""
    return factor.to(images).view(-1, *[1] * (images.dim() - 1))
