"""Draws of p(x | Phi(x) + noise of the tolerance) by randomise-then-optimise, each with a certificate."""

__all__ = ["Posterior", "PosteriorDraws", "sigma_for"]

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

import torch
from scipy.special import chdtri
from torch import Tensor

from invkit.denoisers.loaded import PIXELS_AT_ONCE
from invkit.fiber.distance import parts_of
from invkit.fiber.tangent import Tangent
from invkit.noise.covariance import NoiseCovariance
from invkit.noise.solve import dot
from invkit.posterior.whitened import Whitened
from invkit.split.split import Split
from invkit.tolerance.layer import TolerancedLayer
from invkit.tolerance.unit import Unit
from invkit.tolerance.windows import Windows
from invkit.training.seeds import generator

PROBABILITY = 1 - 1e-4  # that the noise of the tolerance stays below it in one window
STEPS = 6  # Gauss-Newton
CONVERGED = 1e-4  # of the objective, that the next step would gain
UNSOLVED = CONVERGED / 10  # likewise, where the next step's linear system was not solved
WITHIN = 0.1  # relative residual of a step's linear system; the next step takes up what it leaves (Dembo, Eisenstat, Steihaug 1982)
PRODUCTS = 120  # in one step; the next goes on where it ends
HALVINGS = 6
ATTEMPTS = 3  # at each draw, while it fails in a window


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

    @classmethod
    def of(cls, layer: TolerancedLayer) -> Self:
        """Return the posterior of a layer at an image and its tolerance, about the image itself."""
        return cls(layer.split, layer.x, layer.x, layer.windows, layer.prior, layer.tolerance, layer.tangent)

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
        self,
        count: int,
        *,
        seed: int,
        stream: str = "posterior",
        first: int = 0,
        start: Tensor | None = None,
    ) -> "PosteriorDraws":
        """Return draws with their certificates; those that fail in a window are counted and drawn again.

        Draw k depends on seed, stream and k alone, but for rounding: which draws are optimised together does not matter.

        Args:
            count: how many.
            seed: decides every draw, with its index.
            stream: name of what the draws are for.
            first: index of the first.
            start: of the optimisation, w, `(1, 1, H, W)`; 0 by default. It does not change what is drawn but for convergence.
        """
        z = self.split.phi(self.x)
        # One for all draws, or a draw would depend on those that are optimised with it.
        inverse = self._whitened(self.mean).stationary(self.mean)
        at_once = max(1, PIXELS_AT_ONCE // (self.x.shape[-2] * self.x.shape[-1]))
        images = self.x.expand(count, -1, -1, -1).clone()
        distances = torch.full((count,), math.inf, dtype=torch.float64)
        steps, products = (torch.zeros(count, dtype=torch.int64) for _ in range(2))
        everything: list[Tensor] = []
        converged = True
        left = list(range(count))
        for attempt in range(ATTEMPTS):
            for begin in range(0, len(left), at_once):
                these = left[begin : begin + at_once]
                indices = [first + k for k in these]
                found, used, made, ended = self._optimised(indices, attempt, seed, stream, start, inverse)
                converged = converged and ended
                images[these] = found
                distances[these] = torch.cat(
                    [self.windows.distance(self.split.phi(one), z).cpu() for one in found.split(4)]
                )
                steps[these] += used
                products[these] += made
                everything.append(found)
            left = [k for k in left if distances[k] > self.tolerance]
            if not left:
                break
        return PosteriorDraws(
            images=images,
            distances=distances,
            tolerance=self.tolerance,
            drawn=torch.cat(everything) if everything else images,
            steps=steps,
            products=products,
            converged=converged,
        )

    def _whitened(self, at: Tensor) -> Whitened:
        return Whitened(self.split, at, self.unit, self.sigma, self.covariance, self.tangent)

    def _optimised(
        self,
        indices: Sequence[int],
        attempt: int,
        seed: int,
        stream: str,
        start: Tensor | None,
        inverse: Callable[[Tensor], Tensor],
    ) -> tuple[Tensor, int, int, bool]:
        """Return the minimisers of |w - w0|^2 + |(Phi(m + A w) - z - sigma S e) / (sigma S)|^2.

        Also steps, products with G, and whether they converged.
        """
        covariance, sigma = self.covariance, self.sigma
        target = parts_of(self.split.phi(self.x))
        prior = torch.cat(
            [covariance.white(1, generator(seed, stream, "prior", k, attempt)) for k in indices]
        )
        noise = [
            torch.cat(
                [
                    torch.randn(
                        part.shape, generator=generator(seed, stream, "noise", k, number, attempt)
                    ).to(part)
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
            return sum((dot(part, part) for part in misfit), dot(white - prior, white - prior)) / 2

        misfit = residual(white)
        value = objective(white, misfit)
        steps = products = 0
        ended = torch.zeros(len(value), dtype=torch.bool, device=value.device)
        for steps in range(1, STEPS + 1):  # noqa: B007 - told below
            at = self._whitened(self.mean + covariance.root(white))
            gradient = white - prior + at.transposed(misfit)
            solution = at.solve(-gradient, within=WITHIN, at_most=PRODUCTS, inverse=inverse)
            products += solution.products
            del at  # or the next linearisation would lie beside this one
            gain = -dot(gradient, solution.x) / 2
            white, misfit, value = _line_search(white, solution.x, residual, objective, value, ended)
            # The residual of a nearly singular system can stay up; what all products gain then tells.
            enough = torch.where(solution.residual <= WITHIN, CONVERGED, UNSOLVED)
            ended = ended | (gain <= enough * value)
            if bool(ended.all()):
                break
        return self.mean + covariance.root(white), steps, products, bool(ended.all())


@dataclass(frozen=True)
class PosteriorDraws:
    """Draws of one image, and what is known of each.

    Args:
        images: x', `(n, 1, H, W)`, HU; the last attempt at each draw.
        distances: of each from x, in units of S, `(n,)`, float64; the largest over windows.
        tolerance: that they have to keep, in units of S.
        drawn: every attempt, those that failed in a window included, `(tried, 1, H, W)`, HU.
        steps: Gauss-Newton steps of each, over all attempts, `(n,)`.
        products: pairs of products with J and its transpose, likewise.
        converged: whether every optimisation ended by itself.
    """

    images: Tensor
    distances: Tensor
    tolerance: float
    drawn: Tensor
    steps: Tensor
    products: Tensor
    converged: bool

    @property
    def holds(self) -> Tensor:
        """Which draws keep the tolerance in every window, `(n,)`."""
        return self.distances <= self.tolerance

    @property
    def first(self) -> Tensor:
        """The first attempt at each draw, whether it holds or not: draws of the posterior itself, `(n, 1, H, W)`, HU."""
        return self.drawn[: len(self.images)]

    @property
    def rejected(self) -> int:
        """How many attempts failed in a window."""
        return len(self.drawn) - int(self.holds.sum())


def sigma_for(tolerance: float, elements: int) -> float:
    """Return the deviation of independent noise whose root mean square over a window stays below the tolerance.

    Args:
        tolerance: in units of S.
        elements: numbers in a window. It fails with a probability of 1e-4.
    """
    return tolerance / math.sqrt(float(chdtri(elements, 1 - PROBABILITY)) / elements)


def _line_search(
    white: Tensor,
    direction: Tensor,
    residual: Callable[[Tensor], tuple[Tensor, ...]],
    objective: Callable[[Tensor, tuple[Tensor, ...]], Tensor],
    value: Tensor,
    ended: Tensor,
) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
    """Return w + t d with the largest t of 1, 1/2, ... that lessens the objective, its misfit and value.

    It is w where none does, and of those that have ended.
    """
    t = torch.where(ended, 0.0, torch.ones_like(value))
    for _ in range(HALVINGS):
        moved = white + t.to(white).view(-1, 1, 1, 1) * direction
        new = residual(moved)
        reached = objective(moved, new)
        worse = ~(reached < value) & ~ended
        if not bool(worse.any()):
            return moved, new, reached
        t = torch.where(worse, t / 2, t)
    t = torch.where(worse, 0.0, t)
    moved = white + t.to(white).view(-1, 1, 1, 1) * direction
    new = residual(moved)
    return moved, new, objective(moved, new)
