"""Training a layer's wavelet flow: regressor, flow, held-out figures."""

__all__ = ["WaveletRequest", "WaveletTraining", "fit_grid"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from invkit.samplers import (
    FitResult,
    LayerRequest,
    LayerTraining,
    LearnedFlow,
    PatchSampler,
    Regressor,
    Shard,
    estimate_image,
)
from invkit_samplers.wavelet.config import WaveletConfig
from invkit_samplers.wavelet.fit import (
    GridPairs,
    WaveletTask,
    dequantisation_entropy,
    wavelet_fit_config,
    wavelet_nll_rows,
)
from invkit_samplers.wavelet.flow import WaveletFlow
from invkit_samplers.wavelet.model import grid_condition
from invkit_samplers.wavelet.store import wavelet_state


@dataclass(frozen=True)
class WaveletRequest(LayerRequest):
    """What decides how a layer's wavelet flow comes out. The VAE does not: it is a reference only."""

    kind = "wavelet"

    @property
    def settings(self) -> WaveletConfig:
        """Of the flow and its training."""
        return self.config.settings("wavelet", WaveletConfig)

    def describe(self) -> dict[str, Any]:
        """Return the request as JSON values; its fingerprint is the key of the result."""
        config = self.config
        return {
            "kind": self.kind,
            "phi": self.split.describe(),
            "data": self.slices.fingerprint,
            "config": {
                "regressor": config.regressor.model_dump(mode="json"),
                "wavelet": self.settings.model_dump(mode="json"),
                "pairs": config.pairs,
                "dose": config.dose,
            },
            "domain": self.domain,
            "seed": self.seed,
        }


def fit_grid(
    training: LayerTraining,
    config: WaveletConfig,
    pairs: Sequence[GridPairs],
    key: str,
    *,
    purpose: str,
    stage: str,
) -> tuple[WaveletFlow, FitResult]:
    """Return a flow on a grid that was trained for a layer.

    Args:
        training: of the layer.
        config: of the flow.
        pairs: what it is trained on and what it is judged on while it is.
        key: of the request.
        purpose: names its random numbers.
        stage: what progress calls it.
    """
    train, validation = pairs
    seed = training.seed(purpose)
    flow = WaveletFlow(config, train(0, Shard(0, 1))[1].shape[1]).to(training.device)
    task = WaveletTask(flow, train, validation, seed=seed, identity=key)
    return flow, training.fitted(task, wavelet_fit_config(config, seed=seed), "flow", stage)


class WaveletTraining(LayerTraining):
    """One run from nothing to a file; each stage resumes from its own checkpoints."""

    request: WaveletRequest

    def learned(self, regressor: Regressor, key: str) -> Callable[[], LearnedFlow]:
        """Train the flow given g; return what measures it."""
        config = self.request.settings
        *pairs, test = (
            _Pairs(self, self.sampler(part, config.patch, f"wavelet {part}"), regressor)
            for part in self.config.parts
        )
        flow, result = fit_grid(self, config, pairs, key, purpose="wavelet", stage="wavelet flow")

        def measure_flow() -> LearnedFlow:
            rows = wavelet_nll_rows(flow, test, config.held_out, seed=self.seed("nll"))
            floor = dequantisation_entropy(config)
            return LearnedFlow(
                "flow",
                wavelet_state(flow),
                result,
                rows,
                floor,
                torch.full_like(rows, floor),
                test.patients(config.held_out),
                meta={"seconds": result.seconds, "precision": result.precision},
            )

        return measure_flow

    @torch.no_grad()
    def pair(self, x: Tensor, target: Tensor, regressor: Regressor) -> tuple[Tensor, Tensor]:
        """Return residual r = target - g(Phi(x)) and condition of patches `(n, 1, s, s)`, HU."""
        z = self.split.phi(x)
        estimate = estimate_image(self.split, regressor, z, target.shape[-2:])
        return target - estimate, grid_condition(regressor, z, estimate, self.request.settings)


class _Pairs:
    """Residuals and conditions of one part of the slices, by step."""

    def __init__(self, training: WaveletTraining, sampler: PatchSampler, regressor: Regressor) -> None:
        self.training, self.sampler, self.regressor = training, sampler, regressor
        self.batch = training.request.settings.batch
        self.feed = training.feed(sampler, self.batch)

    def __call__(self, step: int, shard: Shard) -> tuple[Tensor, Tensor]:
        x, target = self.feed.batch((step, shard), following=(step + 1, shard))
        return self.training.pair(x, target, self.regressor)

    def patients(self, count: int) -> Tensor:
        """Return the number of the patient that each of the first patches is from, `(count,)`."""
        steps = range(-(-count // self.batch))
        return torch.cat([self.sampler.batch(step, self.batch).patient for step in steps])[:count]
