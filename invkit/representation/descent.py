"""Solves the stages of a regressor one after the other: a descent onto the image that an activation came from."""

__all__ = ["Halt", "descend"]

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from invkit.representation.regressor import Activation, Phi, Regressor
from invkit.representation.ridge import Moments
from invkit.representation.stage import Stage
from invkit.training.distributed import broadcast_json, broadcast_tensors

Pair = tuple[Activation, Tensor]
Halt = Callable[[Sequence[float]], bool]
PENALTIES = tuple(10.0**-power for power in range(1, 8))
EVERY = 4  # one of so many batches chooses the penalty
PATIENCE = 3  # stages without gain


@dataclass
class _Trace:
    """Where the descent of one batch stands.

    Args:
        features: z, standardised, `(B, C, h, w)`.
        target: x, on the grid and in inner units, `(B, s^2, h, w)`.
        x: the estimate, alike.
        size: of the images.
        steps: all so far.
        residual: z minus Phi of the estimate, standardised.
    """

    features: Tensor
    target: Tensor
    x: Tensor
    size: tuple[int, int]
    steps: list[Tensor] = field(default_factory=list)
    residual: Tensor = field(default_factory=lambda: torch.zeros(()))

    @classmethod
    def of(cls, regressor: Regressor, z: Activation, image: Tensor) -> "_Trace":
        size = (int(image.shape[-2]), int(image.shape[-1]))
        return cls(regressor.features(z, size), regressor.inner(image), regressor.start(z, size), size)

    def ask(self, regressor: Regressor, phi: Phi) -> None:
        self.residual = self.features - regressor.features(phi(regressor.image(self.x)), self.size)

    def advance(self, regressor: Regressor, stage: Stage) -> None:
        self.x, step = regressor.stepped(self.x, stage(self.residual, self.steps))
        self.steps.append(step)


@torch.no_grad()
def descend(
    regressor: Regressor,
    examples: Iterable[Pair],
    held_out: Iterable[Pair],
    phi: Phi,
    halt: Halt,
    *,
    told: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Add stages to a calibrated regressor, each solved on the estimates that those before it leave.

    Each is a ridge regression of what is missing, with the penalty that leaves least of every fourth batch. Where processes
    share a training, all of them take the stages of the first.

    Args:
        regressor: without stages; `config.stages` is the most that it gets.
        examples: activations and images of training patches, `(B, 1, H, W)`, HU.
        held_out: the same of other patients, which decide how many stages are kept: as many as leave the least error.
        phi: from images to activations.
        halt: told the held-out RMSE before any stage and after each, HU; says whether that is enough.
        told: called with the number of stages and the held-out RMSE as they come.

    Returns:
        the held-out RMSE before any stage and after each that was tried, HU.
    """
    training, others = (
        [_Trace.of(regressor, z, image) for z, image in pairs] for pairs in (examples, held_out)
    )
    looks: list[float] = []

    def look() -> None:
        squares = torch.stack([(trace.x - trace.target).square().mean() for trace in others])
        found = broadcast_json(regressor.config.hu_scale * squares.mean().sqrt().item())
        looks.append(found if math.isfinite(found) else math.inf)
        if told is not None:
            told(len(looks) - 1, looks[-1])

    look()
    while len(looks) <= regressor.config.stages and not halt(looks) and not _idle(looks):
        for trace in (*training, *others):
            trace.ask(regressor, phi)
        scale = torch.stack([trace.residual.square().mean((0, 2, 3)) for trace in training]).mean(0).sqrt()
        if not bool((scale > 0).any()):
            break
        stage = regressor.add_stage()
        _solve(stage, training, scale)
        broadcast_tensors(stage.parameters())
        for trace in (*training, *others):
            trace.advance(regressor, stage)
        look()
    regressor.keep_stages(looks.index(min(looks)))
    return looks


def _idle(looks: Sequence[float]) -> bool:
    """Tell whether the last stages gained nothing."""
    return len(looks) > PATIENCE and min(looks[-PATIENCE:]) >= min(looks[:-PATIENCE])


def _solve(stage: Stage, traces: Sequence[_Trace], scale: Tensor) -> None:
    """Set a stage to the ridge regression of what the estimates miss.

    Args:
        stage: the next one.
        traces: that have asked.
        scale: root mean square of the channels of their residuals, `(C,)`.
    """
    before = [
        torch.stack([trace.steps[len(trace.steps) - back].square().mean() for trace in traces]).mean().sqrt()
        for back in range(stage.before, 0, -1)
    ]
    outputs = traces[0].x.shape[1]
    width = torch.cat([scale, *(one.expand(outputs) for one in before)])
    width = torch.where(width > 0, width, torch.ones_like(width))
    parts = [
        Moments(len(width), outputs, stage.conv.kernel_size[0], device=traces[0].x.device) for _ in range(2)
    ]
    for number, trace in enumerate(traces):
        features = stage.features(trace.residual, trace.steps) / width[:, None, None]
        parts[number % EVERY == EVERY - 1].add(features, trace.target - trace.x)
    fitted, held_out = parts
    ridge = min(PENALTIES, key=lambda penalty: held_out.loss(fitted.solve(penalty)))
    whole = fitted + held_out
    weight, bias = whole.kernel(whole.solve(ridge))
    stage.conv.weight.copy_(weight / width[:, None, None])
    torch.as_tensor(stage.conv.bias).copy_(bias)
