"""Draws of p(x | Phi(x) + noise of the tolerance) by randomise-then-optimise, each with a certificate."""

__all__ = ["Posterior", "PosteriorDraws", "sigma_for"]

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from scipy.stats import chi2
from torch import Tensor

from invkit.denoisers.loaded import PIXELS_AT_ONCE
from invkit.fiber.distance import parts_of
from invkit.fiber.tangent import Tangent
from invkit.noise.covariance import NoiseCovariance
from invkit.posterior.whitened import Whitened
from invkit.split.split import Split
from invkit.tolerance.unit import Unit
from invkit.tolerance.windows import Windows
from invkit.training.precision import in_float64
from invkit.training.seeds import generator

PROBABILITY = 1 - 1e-4  # that the noise of the tolerance stays below it in one window
STEPS = 6  # Gauss-Newton
CONVERGED = 1e-4  # of the objective, that the next step would gain
WITHIN = 3e-3  # relative residual of a step's linear system
PRODUCTS = 120  # in one step; the next goes on where it ends
HALVINGS = 6
ROUNDS = 3  # of draws, to replace those that fail in a window


@dataclass(frozen=True)
class Posterior:
    """The images that a layer does not tell from x within a tolerance, weighted by how likely dose noise makes them.

    x' = m + A w with w ~ N(0, I) and z' = Phi(x') + sigma S e with e ~ N(0, I); what is drawn is w given z' = Phi(x).

    Args:
        split: the layer.
        x: the image, `(1, 1, H, W)`, HU.
        mean: m, likewise.
        windows: of the layer, with S.
        covariance: C = A A^T.
        tolerance: of certificates, in units of S.
        tangent: the derivative of Phi, traced once.
    """

    split: Split
    x: Tensor
    mean: Tensor
    windows: Windows
    covariance: NoiseCovariance
    tolerance: float
    tangent: Tangent = field(repr=False)

    @property
    def unit(self) -> Unit:
        """S."""
        return self.windows.unit

    @property
    def sigma(self) -> float:
        """Deviation of the noise of the tolerance, in units of S."""
        return sigma_for(self.tolerance, self.windows.elements())

    @torch.no_grad()
    def draw(
        self, count: int, *, seed: int, stream: str = "posterior", start: Tensor | None = None
    ) -> "PosteriorDraws":
        """Return draws that are certified; those that fail in a window are counted and drawn again.

        Args:
            count: how many.
            seed: decides every draw, with its index.
            stream: name of what the draws are for.
            start: of the optimisation, w, `(1, 1, H, W)`; 0 by default. It does not change what is drawn but for convergence.
        """
        found: list[Tensor] = []
        distances: list[Tensor] = []
        everything: list[Tensor] = []
        converged = True
        tried = steps = products = 0
        at_once = max(1, PIXELS_AT_ONCE // (self.x.shape[-2] * self.x.shape[-1]))
        z = self.split.phi(self.x)
        while len(found) < count and tried < ROUNDS * count:
            indices = range(tried, tried + min(at_once, count - len(found)))
            tried = indices.stop
            images, used, made, ended = self._optimised(indices, seed, stream, start)
            converged = converged and ended
            distance = torch.cat([self.windows.distance(self.split.phi(one), z) for one in images.split(4)])
            holds = (distance <= self.tolerance).to(images.device)
            everything += list(images)
            found += list(images[holds])
            distances += list(distance[holds.to(distance.device)])
            steps, products = max(steps, used), products + made
        images = torch.stack(found[:count]) if found else self.x[:0]
        return PosteriorDraws(
            images=images,
            distances=torch.stack(distances[:count]) if found else torch.zeros(0, dtype=torch.float64),
            drawn=torch.stack(everything),
            tried=tried,
            steps=steps,
            products=products,
            converged=converged,
        )

    def _optimised(
        self, indices: range, seed: int, stream: str, start: Tensor | None
    ) -> tuple[Tensor, int, int, bool]:
        """Return the minimisers of |w - w0|^2 + |(Phi(m + A w) - z - sigma S e) / (sigma S)|^2.

        Also steps, products with G, and whether they converged.
        """
        covariance, sigma = self.covariance, self.sigma
        target = parts_of(self.split.phi(self.x))
        prior = torch.cat([covariance.white(1, generator(seed, stream, "prior", k)) for k in indices])
        noise = [
            torch.cat(
                [
                    torch.randn(part.shape, generator=generator(seed, stream, "noise", k, number)).to(part)
                    for k in indices
                ]
            )
            for number, part in enumerate(target)
        ]
        wanted = [part + sigma * s * e for part, s, e in zip(target, self.unit.s, noise, strict=True)]
        white = torch.zeros_like(prior) if start is None else start.expand_as(prior).clone()

        def residual(white: Tensor) -> tuple[Tensor, ...]:
            z = parts_of(self.split.phi(self.mean + covariance.root(white)))
            return tuple(
                (part - goal) / (sigma * s) for part, goal, s in zip(z, wanted, self.unit.s, strict=True)
            )

        def objective(white: Tensor, misfit: tuple[Tensor, ...]) -> Tensor:
            total = _square(white - prior)
            for part in misfit:
                total = total + _square(part)
            return total / 2

        misfit = residual(white)
        value = objective(white, misfit)
        steps = products = 0
        converged = False
        for steps in range(1, STEPS + 1):  # noqa: B007 - told below
            at = Whitened(
                self.split, self.mean + covariance.root(white), self.unit, sigma, covariance, self.tangent
            )
            gradient = white - prior + at.transposed(misfit)
            solution = at.solve(-gradient, within=WITHIN, at_most=PRODUCTS)
            products += solution.products
            del at  # or the next linearisation would lie beside this one
            gain = -_inner(gradient, solution.x) / 2
            solved = bool((solution.residual <= WITHIN).all())
            converged = solved and bool((gain <= CONVERGED * value).all())
            white, misfit, value = _line_search(white, solution.x, residual, objective, value)
            if converged:
                break
        return self.mean + covariance.root(white), steps, products, converged


@dataclass(frozen=True)
class PosteriorDraws:
    """Certified draws.

    Args:
        images: x', `(n, 1, H, W)`, HU; n is as asked for, or fewer where too many failed.
        distances: of each from x, in units of S, `(n,)`, float64; the largest over windows.
        drawn: all that were drawn, those that failed included, `(tried, 1, H, W)`, HU.
        tried: how many were drawn.
        steps: Gauss-Newton steps, the most that any batch took.
        products: pairs of products with J and its transpose, for each batch of draws.
        converged: whether every optimisation ended by itself.
    """

    images: Tensor
    distances: Tensor
    drawn: Tensor
    tried: int
    steps: int
    products: int
    converged: bool


def sigma_for(tolerance: float, elements: int) -> float:
    """Return the deviation of independent noise whose root mean square over a window stays below the tolerance.

    Args:
        tolerance: in units of S.
        elements: numbers in a window. It fails with a probability of 1e-4.
    """
    return tolerance / math.sqrt(float(chi2.ppf(PROBABILITY, elements)) / elements)


def _line_search(
    white: Tensor,
    direction: Tensor,
    residual: Callable[[Tensor], tuple[Tensor, ...]],
    objective: Callable[[Tensor, tuple[Tensor, ...]], Tensor],
    value: Tensor,
) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
    """Return w + t d with the largest t of 1, 1/2, ... that lessens the objective, its misfit and value; w where none does."""
    t = torch.ones_like(value)
    for _ in range(HALVINGS):
        moved = white + t.to(white).view(-1, 1, 1, 1) * direction
        new = residual(moved)
        reached = objective(moved, new)
        worse = ~(reached < value)
        if not bool(worse.any()):
            return moved, new, reached
        t = torch.where(worse, t / 2, t)
    t = torch.where(worse, 0.0, t)
    moved = white + t.to(white).view(-1, 1, 1, 1) * direction
    new = residual(moved)
    return moved, new, objective(moved, new)


def _square(rows: Tensor) -> Tensor:
    return in_float64(rows.flatten(1)).square().sum(1)


def _inner(a: Tensor, b: Tensor) -> Tensor:
    return (in_float64(a.flatten(1)) * in_float64(b.flatten(1))).sum(1)
