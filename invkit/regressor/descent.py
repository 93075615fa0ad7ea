"""Solves the stages of a regressor one after the other: a descent onto the image that an activation came from."""

__all__ = ["Halt", "descend"]

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from invkit.regressor.regressor import Activation, Phi, Regressor
from invkit.regressor.ridge import Moments
from invkit.regressor.stage import Stage, Trace
from invkit.training.processes.distributed import broadcast_json, broadcast_tensors

Pair = tuple[Activation, Tensor]
Halt = Callable[[Sequence[float]], bool]
PENALTIES = tuple(10.0**-power for power in range(1, 8))
EVERY = 4  # one of so many batches chooses the penalty
PATIENCE = 3  # stages without gain


@dataclass(frozen=True)
class _Known:
    """A descent of one batch, and the images that it should end at, in inner units on the grid, `(B, s^2, h, w)`."""

    trace: Trace
    target: Tensor

    @classmethod
    def of(cls, regressor: Regressor, z: Activation, image: Tensor) -> "_Known":
        size = (int(image.shape[-2]), int(image.shape[-1]))
        return cls(regressor.begin(z, size), regressor.inner(image))

    @property
    def missing(self) -> Tensor:
        return self.target - self.trace.x


@torch.no_grad()
def descend(
    regressor: Regressor,
    examples: Iterable[Pair],
    held_out: Iterable[Pair],
    phi: Phi,
    halt: Halt,
    *,
    on_stage: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Add stages to a calibrated regressor, each solved on the estimates that those before it leave.

    Each is a ridge regression of what is missing, with the penalty that leaves least of every fourth batch. Where processes
    share a training, all of them take the stages of the first.

    Args:
        regressor: without stages; `config.stages` is the most that it gets.
        examples: activations and images of training patches, `(B, 1, H, W)`, HU.
        held_out: the same of other patients, which decide how many stages are kept: as many as leave the least error.
        phi: from images to activations.
        halt: is given the held-out RMSE before any stage and after each, HU; says whether that is enough.
        on_stage: called with the number of stages and the held-out RMSE as they come.

    Returns:
        the held-out RMSE before any stage and after each that was tried, HU.
    """
    training, others = (
        [_Known.of(regressor, z, image) for z, image in pairs] for pairs in (examples, held_out)
    )
    looks: list[float] = []

    def look() -> None:
        squares = torch.stack([known.missing.square().mean() for known in others])
        found = broadcast_json(regressor.config.hu_scale * squares.mean().sqrt().item())
        looks.append(found if math.isfinite(found) else math.inf)
        if on_stage is not None:
            on_stage(len(looks) - 1, looks[-1])

    look()
    while len(looks) <= regressor.config.stages and not halt(looks) and not _idle(looks):
        for known in (*training, *others):
            regressor.ask(known.trace, phi)
        stage = regressor.add_stage()
        if not _solve(stage, training):
            break
        broadcast_tensors(stage.parameters())
        for known in (*training, *others):
            regressor.advance(known.trace, stage)
        look()
    regressor.keep_stages(looks.index(min(looks)))
    return looks


def _idle(looks: Sequence[float]) -> bool:
    """Tell whether the last stages gained nothing."""
    return len(looks) > PATIENCE and min(looks[-PATIENCE:]) >= min(looks[:-PATIENCE])


def _solve(stage: Stage, batches: Sequence[_Known]) -> bool:
    """Set a stage to the ridge regression of what the estimates miss; tell whether there was anything to see.

    Args:
        stage: the next one.
        batches: whose descents have asked.
    """
    seen = [stage.inputs(known.trace) for known in batches]
    # Inputs are in units of their root mean square: that of each channel of the residual, and one for all of a step.
    scale = torch.stack([parts[0].square().mean((0, 2, 3)) for parts in seen]).mean(0).sqrt()
    if not bool((scale > 0).any()):
        return False
    outputs = batches[0].target.shape[1]
    before = [
        torch.stack([parts[number].square().mean() for parts in seen]).mean().sqrt().expand(outputs)
        for number in range(1, 1 + stage.before)
    ]
    width = torch.cat([scale, *before])
    width = torch.where(width > 0, width, torch.ones_like(width))
    fitted, held_out = (
        Moments(len(width), outputs, stage.conv.kernel_size[0], device=width.device) for _ in range(2)
    )
    for number, (known, inputs) in enumerate(zip(batches, seen, strict=True)):
        features = torch.cat(inputs, dim=1) / width[:, None, None]
        (held_out if number % EVERY == EVERY - 1 else fitted).add(features, known.missing)
    ridge = min(PENALTIES, key=lambda penalty: held_out.loss(fitted.solve(penalty)))
    whole = fitted + held_out
    weight, bias = whole.kernel(whole.solve(ridge))
    stage.conv.weight.copy_(weight / width[:, None, None])
    torch.as_tensor(stage.conv.bias).copy_(bias)
    return True
