"""Hamiltonian Monte Carlo with many chains at once, and whether they have converged."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Energy = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Chains:
    """States of chains after burn-in, `(steps, chains, d)`, and the share of proposals that were accepted."""

    states: Tensor
    accepted: float

    def shrinkage(self, of: Callable[[Tensor], Tensor]) -> float:
        """Return the split R-hat (Gelman et al. 2013, section 11.4) of a number `(steps, chains)` computed from the states."""
        values = of(self.states)
        half = len(values) // 2
        halves = torch.cat([values[:half], values[half : 2 * half]], dim=1)
        within = halves.var(0).mean()
        between = halves.mean(0).var()
        return float(((half - 1) / half + between / within).sqrt())


def sample(
    energy: Energy,
    root: Tensor,
    *,
    chains: int,
    burn: int,
    steps: int,
    leaps: int = 6,
    step: float = 0.3,
    wide: float = 1.5,
    seed: int = 0,
) -> Chains:
    """Sample exp(-energy) (Neal 2011, in the Handbook of Markov Chain Monte Carlo, chapter 5).

    Args:
        energy: gives energies `(n,)` and their gradients `(n, d)` at states `(n, d)`, float64.
        root: L with L L^T about the covariance of the target, `(d, d)`: steps are taken where that is the identity.
        chains: how many; they start from N(0, wide^2 L L^T), wider than the target.
        burn: steps that are left out.
        steps: that are kept, of each chain.
        leaps: leapfrog steps of each.
        step: their mean length; each is up to a fifth longer or shorter.
        wide: see `chains`.
        seed: of everything.
    """
    numbers = torch.Generator().manual_seed(seed)

    def normal() -> Tensor:
        return torch.randn(chains, len(root), generator=numbers, dtype=torch.float64)

    def at(u: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = energy(u @ root.T)
        return value, gradient @ root

    u = wide * normal()
    value, gradient = at(u)
    kept, accepted = [], 0.0
    for number in range(burn + steps):
        momentum = normal()
        before = value + momentum.square().sum(1) / 2
        length = step * (0.8 + 0.4 * torch.rand(1, generator=numbers, dtype=torch.float64))
        moved, slope = u, gradient
        momentum = momentum - length / 2 * slope
        for leap in range(leaps):
            moved = moved + length * momentum
            reached, slope = at(moved)
            momentum = momentum - (length if leap < leaps - 1 else length / 2) * slope
        after = reached + momentum.square().sum(1) / 2
        take = torch.rand(chains, generator=numbers, dtype=torch.float64).log() < before - after
        u = torch.where(take[:, None], moved, u)
        value = torch.where(take, reached, value)
        gradient = torch.where(take[:, None], slope, gradient)
        if number >= burn:
            kept.append(u @ root.T)
            accepted += float(take.double().mean()) / steps
    return Chains(torch.stack(kept), accepted)
