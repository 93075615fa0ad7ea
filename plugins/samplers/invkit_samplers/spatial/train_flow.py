"""Training a layer's flow of spatial codes: regressor, codes, flow, held-out figures."""

__all__ = ["SpatialRequest", "SpatialTraining"]

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from invkit.samplers import (
    AT_ONCE,
    LayerRequest,
    LayerTraining,
    LearnedFlow,
    Regressor,
    Shard,
    estimate_image,
    generator,
)
from invkit_samplers.spatial.code import SpatialSettings
from invkit_samplers.spatial.model import CodeFrame
from invkit_samplers.spatial.train import TrainedSpatial
from invkit_samplers.wavelet.config import WaveletConfig
from invkit_samplers.wavelet.fit import wavelet_nll_rows
from invkit_samplers.wavelet.store import wavelet_state
from invkit_samplers.wavelet.train import fit_grid

BATCH = 32  # patches that are drawn and encoded at a time


@dataclass(frozen=True)
class SpatialRequest(LayerRequest):
    """What decides how a layer's flow of spatial codes comes out. The VAE of flat codes does not.

    Args:
        code: the VAE with the spatial code of the target domain.
    """

    kind = "spatial"

    code: TrainedSpatial = field(kw_only=True)

    @property
    def settings(self) -> SpatialSettings:
        """Of the sampler."""
        return self.config.settings("spatial", SpatialSettings)

    @property
    def flow(self) -> WaveletConfig:
        """Settings of the flow: those of the configuration, for as many channels as the code has."""
        channels = self.code.vae.config.channels
        return self.settings.flow.model_copy(update={"channels": channels})

    def describe(self) -> dict[str, Any]:
        """Return the request as JSON values; its fingerprint is the key of the result."""
        config = self.config
        return {
            "kind": self.kind,
            "phi": self.split.describe(),
            "code": self.code.sha256,
            "data": self.slices.fingerprint,
            "config": {
                "regressor": config.regressor.model_dump(mode="json"),
                "flow": self.flow.model_dump(mode="json"),
                "rows": self.settings.rows,
                "pairs": config.pairs,
                "dose": config.dose,
            },
            "domain": self.domain,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class _Codes:
    """Posteriors of patches, and their frames given z.

    Args:
        mean: of E(x), `(n, c, h, w)`.
        log_var: likewise.
        frame: of E(g(z)), n of them.
        patients: number of the patient that each is from, `(n,)`.
        unit: of the flow.
        batch: rows in a step.
        seed: of the rows that are chosen and of the posterior samples.
        shuffled: choose rows at random, or take them in order.
    """

    mean: Tensor
    log_var: Tensor
    frame: CodeFrame
    patients: Tensor
    unit: int
    batch: int
    seed: int
    shuffled: bool

    def __call__(self, step: int, shard: Shard) -> tuple[Tensor, Tensor]:
        """Return coordinates r of posterior samples and their conditions: this part of a step's rows."""
        random = generator(self.seed, "rows", step)
        if self.shuffled:
            rows = torch.randint(len(self.mean), (self.batch,), generator=random)
        else:
            rows = torch.arange(step * self.batch, (step + 1) * self.batch) % len(self.mean)
        noise = torch.randn((self.batch, *self.mean.shape[1:]), generator=random)
        rows, noise = rows[shard.slice(self.batch)], noise[shard.slice(self.batch)].to(self.mean)
        frame = CodeFrame(self.frame.mean[rows], self.frame.log_var[rows])
        code = self.mean[rows] + (0.5 * self.log_var[rows]).exp() * noise
        return frame.into(code), frame.condition(self.unit)

    def floor(self) -> Tensor:
        """Return the posterior entropy of each row, `(n,)`, nats per dimension: the least its likelihood can be."""
        return 0.5 * (math.log(2 * math.pi * math.e) + self.log_var.flatten(1).mean(1))


class SpatialTraining(LayerTraining):
    """One run from nothing to a file; each stage resumes from its own checkpoints."""

    request: SpatialRequest

    @property
    def patch(self) -> int:
        """Side of the patches that are coded."""
        return self.request.flow.patch

    def learned(self, regressor: Regressor, key: str) -> Callable[[], LearnedFlow]:
        """Train the flow given g; return what measures it."""
        config = self.request.flow
        *codes, test = (self._codes(part, regressor) for part in self.config.parts)
        flow, result = fit_grid(self, config, codes, key, purpose="spatial", stage="flow of spatial codes")

        def measure_flow() -> LearnedFlow:
            rows = wavelet_nll_rows(flow, test, config.held_out, seed=self.seed("nll")) + test.frame.shift()
            floor = test.floor()
            meta = {"completeness": self.request.code.meta["held_out"], "seconds": result.seconds}
            state = wavelet_state(flow)
            return LearnedFlow(
                "flow", state, result, rows, floor.mean().item(), floor, test.patients, meta=meta
            )

        return measure_flow

    @torch.no_grad()
    def _codes(self, part: str, regressor: Regressor) -> _Codes:
        """Return codes and frames of the first patches of a part."""
        config, vae = self.request.flow, self.request.code.vae
        count = self.request.settings.rows if part == "train" else config.held_out

        def batch(step: int) -> tuple[Tensor, ...]:
            pairs = self.samplers[part].batch(step, BATCH)
            size = (pairs.x.shape[-2], pairs.x.shape[-1])
            estimate = torch.cat(
                [
                    estimate_image(self.split, regressor, self.split.phi(some.to(self.device)), size)
                    for some in torch.split(pairs.x, AT_ONCE)
                ]
            )
            frame = CodeFrame.of(vae, estimate, config.multiple)
            posterior = vae.encode(vae.pad(self.target(pairs).to(self.device), config.multiple))
            return posterior.mean, posterior.log_var, frame.mean, frame.log_var, pairs.patient

        columns = zip(*map(batch, range(-(-count // BATCH))), strict=True)
        mean, log_var, of_z, log_var_of_z, patients = (torch.cat(column)[:count] for column in columns)
        return _Codes(
            mean,
            log_var,
            CodeFrame(of_z, log_var_of_z),
            patients.cpu(),
            unit=config.unit,
            batch=config.batch,
            seed=self.seed(f"spatial {part}"),
            shuffled=part == "train",
        )
