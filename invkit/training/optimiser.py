"""The optimiser and the learning-rate schedule that all trainings share."""

__all__ = ["OnePhase", "Schedule", "adam", "cosine", "doubling_cosine", "warm_cosine"]

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import torch
from torch import nn

FUSED_DEVICES = frozenset({"cpu", "cuda", "xpu"})


def adam(
    parameters: Iterable[nn.Parameter], lr: float, betas: tuple[float, float] = (0.9, 0.999)
) -> torch.optim.Adam:
    """Return Adam (Kingma and Ba 2015), as one fused kernel where all parameters can use it."""
    chosen = [parameter for parameter in parameters if parameter.requires_grad]
    fused = all(
        parameter.device.type in FUSED_DEVICES and parameter.is_floating_point() for parameter in chosen
    )
    return torch.optim.Adam(chosen, lr=lr, betas=betas, fused=fused)


def cosine(lr: float, step: int, steps: int, warmup: int = 0, end: float = 0.0) -> float:
    """Return the rate at `step` of `steps`: linear warm-up, then half a cosine from `lr` to `end * lr`.

    Args:
        lr: highest rate, reached at step `warmup`.
        step: 0 to `steps - 1`; the last step has exactly `end * lr`.
        steps: steps in all.
        warmup: steps of the linear rise.
        end: last rate as a part of `lr`.
    """
    if step < warmup:
        return lr * (step + 1) / (warmup + 1)
    passed = min((step - warmup) / max(steps - 1 - warmup, 1), 1.0)
    return lr * (end + (1 - end) * 0.5 * (1 + math.cos(math.pi * passed)))


class Schedule(Protocol):
    """The settings that decide the rate of each step."""

    @property
    def lr(self) -> float:
        """Highest rate."""

    @property
    def steps(self) -> int:
        """Steps in all."""

    @property
    def warmup(self) -> int:
        """Steps of the linear rise, of which a short training takes a quarter of its own at most."""


def warm_cosine(schedule: Schedule, step: int) -> float:
    """Return the rate at a step: a warm-up, then a cosine to 0."""
    warmup = min(schedule.warmup, schedule.steps // 4)
    return cosine(schedule.lr, step, schedule.steps, warmup=warmup)


def doubling_cosine(schedule: Schedule, step: int) -> float:
    """Return the rate at a step: a warm-up and a cosine to 0 over each half of the steps, and over each doubling of them.

    Warm restarts (Loshchilov and Hutter, *SGDR: Stochastic Gradient Descent with Warm Restarts*, ICLR 2017) after half of
    `schedule.steps`, all of them, twice, four times as many. The state at each is the end of a whole training, so held-out figures
    there and at the next say what doubling the steps gained, which the flat end of one long cosine does not.
    """
    begun, end = 0, schedule.steps // 2
    while step >= end:
        begun, end = end, max(2 * end, schedule.steps)
    return cosine(schedule.lr, step - begun, end - begun, warmup=min(schedule.warmup, (end - begun) // 4))


class OnePhase:
    """The part of a `training.Task` that trains one network by one Adam: its module, optimiser, phase and rate.

    Args:
        name: of the network in checkpoints.
        network: what is trained, where it is trained.
        schedule: of the rate.
        betas: of Adam.
    """

    def __init__(
        self, name: str, network: nn.Module, schedule: Schedule, betas: tuple[float, float] = (0.9, 0.999)
    ) -> None:
        self._schedule = schedule
        self.modules: Mapping[str, nn.Module] = {name: network}
        self.optimizers: Mapping[str, torch.optim.Optimizer] = {
            "main": adam(network.parameters(), lr=schedule.lr, betas=betas)
        }

    def phases(self, step: int) -> Sequence[str]:
        """Return the one phase there is."""
        return ("main",)

    def learning_rate(self, phase: str, step: int) -> float:
        """Return the rate: a warm-up, then a cosine to 0."""
        return warm_cosine(self._schedule, step)
