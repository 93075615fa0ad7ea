"""Training a layer's flow of spatial codes: regressor, codes, flow, held-out figures, one file."""

__all__ = ["KIND", "SpatialRequest", "find_spatial", "learn_spatial", "load_spatial_flow"]

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from invkit.data.partition import Part
from invkit.denoisers.loaded import AT_ONCE
from invkit.parts.layer import LayerTraining, learn
from invkit.parts.layer_file import LayerRequest, LearnedFlow, read_layer
from invkit.parts.store import Store
from invkit.regressor.regressor import Regressor
from invkit.samplers.spatial.code import SpatialSettings
from invkit.samplers.spatial.fit import TrainedSpatial
from invkit.samplers.spatial.model import CodeFrame, SpatialModel
from invkit.samplers.wavelet.config import WaveletConfig
from invkit.samplers.wavelet.fit import wavelet_nll_rows
from invkit.samplers.wavelet.store import wavelet_from, wavelet_state
from invkit.samplers.wavelet.train import fit_grid
from invkit.sampling.base import estimated
from invkit.training.engine import Shard
from invkit.training.progress import Progress
from invkit.training.seeds import generator

KIND = "spatial"
BATCH = 32  # patches that are drawn and encoded at a time


@dataclass(frozen=True)
class SpatialRequest(LayerRequest):
    """What decides how a layer's flow of spatial codes comes out. The VAE of flat codes does not.

    Args:
        code: the VAE with the spatial code of the target domain.
    """

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
            "kind": KIND,
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


def find_spatial(request: SpatialRequest, store: Store) -> SpatialModel | None:
    """Return the trained flow of a request, bundled or cached, or `None`."""
    found = store.find(KIND, store.key(request.describe()))
    return None if found is None else load_spatial_flow(found[0], request, sha256=found[1])


def load_spatial_flow(path: Path, request: SpatialRequest, *, sha256: str | None = None) -> SpatialModel:
    """Read a layer's flow of spatial codes and refuse it where its provenance is not that of the request.

    Raises:
        ArtifactError: the file is damaged, or was trained for another layer, code, data or configuration.
    """
    return SpatialModel(vae=request.code.vae, **read_layer(path, request, sha256, wavelet_from, "flow")[0])


def learn_spatial(request: SpatialRequest, store: Store, *, progress: Progress | None = None) -> SpatialModel:
    """Train a layer's flow of spatial codes and keep it, or return what another process has trained in the meantime.

    Raises:
        DivergedError: a training diverged twice.
    """
    return load_spatial_flow(learn(_SpatialTraining, request, store, progress=progress), request)


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


class _SpatialTraining(LayerTraining):
    """One run from nothing to a file; each stage resumes from its own checkpoints."""

    request: SpatialRequest

    @property
    def patch(self) -> int:
        """Side of the patches that are coded."""
        return self.request.flow.patch

    def learned(self, regressor: Regressor, key: str) -> Callable[[], LearnedFlow]:
        """Train the flow given g; return what measures it."""
        config = self.request.flow
        *codes, test = (self._codes(part, regressor) for part in get_args(Part))
        flow, result = fit_grid(self, config, codes, key, purpose="spatial", stage="flow of spatial codes")

        def measured() -> LearnedFlow:
            rows = wavelet_nll_rows(flow, test, config.held_out, seed=self.seed("nll")) + test.frame.shift()
            floor = test.floor()
            meta = {"completeness": self.request.code.meta["held_out"], "seconds": result.seconds}
            state = wavelet_state(flow)
            return LearnedFlow(
                "flow", state, result, rows, floor.mean().item(), floor, test.patients, meta=meta
            )

        return measured

    @torch.no_grad()
    def _codes(self, part: Part, regressor: Regressor) -> _Codes:
        """Return codes and frames of the first patches of a part."""
        config, vae = self.request.flow, self.request.code.vae
        count = self.config.settings("spatial", SpatialSettings).rows if part == "train" else config.held_out

        def batch(step: int) -> tuple[Tensor, ...]:
            pairs = self.samplers[part].batch(step, BATCH)
            size = (pairs.x.shape[-2], pairs.x.shape[-1])
            estimate = torch.cat(
                [
                    estimated(self.split, regressor, self.split.phi(some.to(self.device)), size)
                    for some in torch.split(pairs.x, AT_ONCE)
                ]
            )
            frame = CodeFrame.of(vae, estimate, config.multiple)
            posterior = vae.encode(vae.pad(self._target(pairs).to(self.device), config.multiple))
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
