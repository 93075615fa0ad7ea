"""Training of the wavelet flow by maximum likelihood, and its held-out figures."""

__all__ = ["GridPairs", "WaveletTask", "dequantisation_entropy", "wavelet_fit_config", "wavelet_nll_rows"]

import math
from collections.abc import Callable

import torch
from torch import Tensor

from invkit.samplers import FitConfig, OnePhase, Shard, generator, in_float64
from invkit_samplers.wavelet.config import WaveletConfig
from invkit_samplers.wavelet.flow import WaveletFlow

GridPairs = Callable[[int, Shard], tuple[Tensor, Tensor]]
"""From step and shard to r `(B, c, H, W)` and its condition `(B, C, H / unit, W / unit)`; a pure function."""
WHOLE = Shard(0, 1)


def dequantisation_entropy(config: WaveletConfig) -> float:
    """Return the entropy of the noise that is added to every number, nats: 1/2 log(2 pi e sigma^2).

    What is modelled is r plus this noise, so where z determines r it is the negative log-likelihood of the best model.
    Without noise there is no such floor: minus infinity.
    """
    if config.dequantisation == 0:
        return -math.inf
    return 0.5 * math.log(2 * math.pi * math.e * config.dequantisation**2)


def dequantised(r: Tensor, config: WaveletConfig, random: torch.Generator) -> Tensor:
    """Return r plus the noise that gives its likelihood a floor; drawn on the generator's device."""
    if config.dequantisation == 0:
        return r
    noise = torch.randn(r.shape, generator=random, device=random.device)
    return r + config.dequantisation * noise.to(r)


@torch.no_grad()
def wavelet_nll_rows(flow: WaveletFlow, pairs: GridPairs, count: int, seed: int) -> Tensor:
    """Return the NLL of the first `count` rows that `pairs` gives, `(count,)`, nats per dimension, in eval mode.

    The noise depends on seed and rows alone, so layers and controls are judged on the same numbers.
    """
    training = flow.training
    flow.eval()
    rows: list[Tensor] = []
    step = 0
    while sum(len(part) for part in rows) < count:
        r, condition = pairs(step, WHOLE)
        noisy = dequantised(r, flow.config, generator(seed, "held-out", step))
        rows.append(flow.nll(noisy, condition))
        step += 1
    flow.train(training)
    return torch.cat(rows)[:count]


class WaveletTask(OnePhase):
    """Maximum likelihood of r given z: what `training.fit` needs to train a wavelet flow (a `training.Task`).

    Args:
        flow: what is trained; whitened here, on the first batches.
        pairs: batches to train on, on the flow's device.
        held_out: those of other patients.
        seed: of the noise.
        identity: what is trained on what, for the run folder.
    """

    monitor: str | None = "nll"

    def __init__(
        self,
        flow: WaveletFlow,
        pairs: GridPairs,
        held_out: GridPairs,
        *,
        seed: int = 0,
        identity: str | None = None,
    ) -> None:
        self.flow, self.pairs, self.held_out = flow, pairs, held_out
        self.seed, self.identity, self.config = seed, identity, flow.config
        steps = -(-self.config.start // self.config.batch)
        examples = [pairs(step, WHOLE) for step in range(steps)]
        r = torch.cat([one for one, _ in examples])
        flow.start(
            dequantised(r, self.config, generator(seed, "start")), torch.cat([one for _, one in examples])
        )
        self.bf16 = self.config.bf16
        super().__init__("flow", flow, self.config, self.config.betas)

    def loss(self, phase: str, step: int, shard: Shard) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Return the mean NLL of this process's part of the batch, nats per dimension."""
        r, condition = self.pairs(step, shard)
        noisy = dequantised(r, self.config, generator(self.seed, "noise", step, shard.rank))
        loss = self.flow.nll(noisy, condition).mean()
        return loss, {"nll_train": loss.detach()}

    def evaluate(self, step: int) -> dict[str, float]:
        """Return the held-out NLL and, where noise gives it one, its floor, nats per dimension."""
        rows = wavelet_nll_rows(self.flow, self.held_out, self.config.held_out, self.seed)
        floor = dequantisation_entropy(self.config)
        return {"nll": float(in_float64(rows).mean())} | (
            {"nll_floor": floor} if math.isfinite(floor) else {}
        )


def wavelet_fit_config(config: WaveletConfig, *, seed: int = 0) -> FitConfig:
    """Return the engine's settings for a flow of this config."""
    return FitConfig(
        steps=config.steps,
        seed=seed,
        evaluate_every=config.evaluate_every,
        checkpoint_every=config.evaluate_every,
        clip_norm=config.clip_norm,
        patience=config.patience,
    )
