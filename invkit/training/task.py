"""What the engine trains, how long, and what comes out."""

__all__ = ["FitConfig", "FitResult", "Task"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from invkit.training.precision import Precision
from invkit.training.processes.distributed import Shard


class Task(Protocol):
    """What is trained: modules, their optimisers, and a loss for each phase.

    `loss` is a pure function of (parameters and buffers, seed, step, shard): data and noise come from
    `generator(seed, ..., step)`. What the modules draw from torch's global generator (dropout) is seeded by
    the engine for each step. State that is set from data, such as an ActNorm's scale, is set before `fit` is
    called, so that all processes agree on it.

    Optional attributes: `monitor`, the key of `evaluate()` that is to be minimised: the state with the
    lowest value is the result; `bf16`: whether networks that ask for `mixed_precision` may be trained in bfloat16 where that
    is measured to be faster; `identity`, a text that names what is trained on what: a folder that holds
    another one is refused; `enough`, which is given the monitored figures of all evaluations so far, `(step, value)`, and tells
    whether training ends here.

    `loss` and `evaluate` may raise `DivergedError` (a critic that blew up, a collapsed posterior): it is
    treated as a loss that is not finite.
    """

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """Everything that a checkpoint must hold."""
        ...

    @property
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """The optimiser of each phase; only its parameters change in that phase."""
        ...

    def phases(self, step: int) -> Sequence[str]:
        """Return the phases of a step in their order; one may come several times."""
        ...

    def loss(self, phase: str, step: int, shard: Shard) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Return the scalar loss, a mean over this shard of the batch, and figures to log; in train mode."""
        ...

    def learning_rate(self, phase: str, step: int) -> float:
        """Return the learning rate of a phase's optimiser at a step."""
        ...

    def evaluate(self, step: int) -> dict[str, float]:
        """Return held-out figures after `step` steps, or `{}`; in eval mode, without gradients."""
        ...


class FitConfig(BaseModel):
    """How long and how carefully to train.

    Args:
        steps: optimiser steps.
        seed: of everything random in the engine.
        checkpoint_every: steps between two checkpoints.
        evaluate_every: steps between two evaluations; the last step is always followed by one.
        log_every: steps between two lines in `metrics.jsonl`.
        clip_norm: longest gradient of a phase (Euclidean norm), or `None`.
        patience: evaluations in a row without a lower monitored value that end the training, or `None`.
        max_rollbacks: how often a diverged training goes back to a checkpoint, each time at half the rate.
        keep_start: whether what a monitored training begins with is its result where no evaluation is better; patience
            compares evaluations with each other, not with the start.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(gt=0)
    seed: int = 0
    checkpoint_every: int = Field(default=500, gt=0)
    evaluate_every: int = Field(default=500, gt=0)
    log_every: int = Field(default=10, gt=0)
    clip_norm: float | None = Field(default=None, gt=0)
    patience: int | None = Field(default=None, gt=0)
    max_rollbacks: int = Field(default=1, ge=0)
    keep_start: bool = False


@dataclass(frozen=True)
class FitResult:
    """What a training gave; the modules hold the result.

    Args:
        steps: steps done, fewer than asked for after an early stop.
        metrics: figures of the evaluation that belongs to the resulting state.
        history: `metrics.jsonl`.
        stopped_early: whether patience ran out.
        seconds: time of all sessions together.
        best_step: after how many steps the resulting state was reached; 0 is the start.
        rollbacks: how often the training diverged and went on from a checkpoint at half the rate.
        exact: whether all sessions had the same versions, threads and processes, so that the result is
            bit for bit that of an undisturbed run.
        precision: what the networks that ask for `mixed_precision` were trained in.
        processes: how many shared the batches in the last session.
        start: figures of the start, where it was a candidate for the result.
    """

    steps: int
    metrics: dict[str, float]
    history: Path
    stopped_early: bool
    seconds: float
    best_step: int
    rollbacks: int
    exact: bool
    precision: Precision = "float32"
    processes: int = 1
    start: dict[str, float] = field(default_factory=dict)
