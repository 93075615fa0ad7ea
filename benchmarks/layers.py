"""Splitting: what capturing an activation costs over a plain pass, and Phi over the layers up to the split."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import numpy as np
import torch
from timing import Row, alternate
from torch import Tensor, nn

import invkit
from invkit.split.hooks import capture
from invkit.split.split import Split

__all__ = ["rows"]

PAIRS = 200
LAYER = "3"


def upper(ratios: list[float]) -> float:
    """Return the upper bound of a 95 % bootstrap interval of the median ratio."""
    random = np.random.default_rng(0)
    draws = random.choice(ratios, (2000, len(ratios)))
    return float(np.quantile(np.median(draws, axis=1), 0.975))


def pairs(
    row: str, what: str, rival: str, ours: Callable[[], object], other: Callable[[], object], target: float
) -> Row:
    """Return a row whose ratio is 1 over the upper bound of what ours costs."""
    mine, theirs = alternate(ours, other, seconds=0, least=PAIRS)
    bound = upper([a / b for a, b in zip(mine, theirs, strict=True)])
    return Row(row, what, statistics.median(mine), rival, statistics.median(theirs), 1 / bound, target)


def rows() -> list[Row]:
    """Return all rows of this file."""
    denoiser = invkit.load("yang2018")
    split = Split(denoiser, LAYER)
    network = denoiser.network
    x = denoiser.prepare(torch.randn(1, 1, 128, 128, generator=torch.Generator().manual_seed(0)) * 300)
    (layer,) = split.layers

    @torch.no_grad()
    def plain() -> Tensor:
        return network(x)

    @torch.no_grad()
    def captured() -> Tensor:
        with capture(network, split.layers, stop=False):
            return network(x)

    @torch.no_grad()
    def stopped() -> object:
        with capture(network, split.layers, stop=True) as record:
            network(x)
        return record.outputs()

    # yang2018 runs its modules in the order in which they are listed.
    modules = [module for _, module in network.named_modules() if not list(module.children())]
    until = modules[: modules.index(network.get_submodule(layer.module)) + 1]

    @torch.no_grad()
    def alone() -> object:
        z = x
        for module in until:
            z = module(z)
        return z

    same = torch.equal(alone(), stopped()[0])  # type: ignore[index]
    if not same or not all(isinstance(module, nn.Module) for module in until):
        raise RuntimeError("the layers up to the split are not a chain, so they cannot be timed alone")
    return [
        pairs("capture", f"a pass that keeps layer {LAYER}", "the plain pass", captured, plain, 1 / 1.05),
        pairs(
            "phi", f"Phi of layer {LAYER}", "the layers up to it, called one by one", stopped, alone, 1 / 1.05
        ),
    ]
