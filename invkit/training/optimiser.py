"""The optimiser and the learning-rate schedule that all trainings share."""

__all__ = ["adam", "cosine"]

import math
from collections.abc import Iterable

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
