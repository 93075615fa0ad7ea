"""Training a layer's wavelet flow: regressor, flow, held-out figures, one file."""

__all__ = ["KIND", "WaveletRequest", "find_wavelet", "learn_wavelet", "load_wavelet"]

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from invkit import artifacts
from invkit._version import __version__
from invkit.data.partition import Part
from invkit.data.patches import PatchSampler
from invkit.data.slices import split_meta
from invkit.flow.wavelet import WaveletFlow
from invkit.flow.wavelet_store import wavelet_from, wavelet_state
from invkit.flow.wavelet_train import (
    WaveletTask,
    dequantisation_entropy,
    wavelet_fit_config,
    wavelet_nll_rows,
)
from invkit.pipeline.store import Store
from invkit.pipeline.train_layer import LayerRequest, LayerTraining
from invkit.representation.regressor import Regressor
from invkit.sampling.wavelet_model import WaveletModel, grid_condition
from invkit.training.engine import Shard, fit
from invkit.training.lock import exclusive
from invkit.training.progress import Progress

KIND = "wavelet"


@dataclass(frozen=True)
class WaveletRequest(LayerRequest):
    """What decides how a layer's wavelet flow comes out. The VAE does not: it stands for a rung of the ladder only."""

    def describe(self) -> dict[str, Any]:
        """Return the request as JSON values; its fingerprint is the key of the result."""
        config = self.config
        return {
            "kind": KIND,
            "phi": self.split.describe(),
            "data": self.slices.fingerprint,
            "config": {
                "regressor": config.regressor.model_dump(mode="json"),
                "wavelet": config.wavelet.model_dump(mode="json"),
                "pairs": config.pairs,
                "dose": config.dose,
            },
            "domain": self.domain,
            "seed": self.seed,
        }


def find_wavelet(request: WaveletRequest, store: Store) -> WaveletModel | None:
    """Return the trained flow of a request, bundled or cached, or `None`."""
    found = store.find(KIND, store.key(request.describe()))
    return None if found is None else load_wavelet(found[0], request, sha256=found[1])


def load_wavelet(path: Path, request: WaveletRequest, *, sha256: str | None = None) -> WaveletModel:
    """Read a layer's wavelet flow and refuse it where its provenance is not that of the request.

    Raises:
        ArtifactError: the file is damaged, or was trained for another layer, data or configuration.
    """
    stored = artifacts.load(path, kind=KIND, sha256=sha256)
    stored.require(request.describe())
    device = request.vae.vae.decoder.last.device
    return WaveletModel(
        split=request.split,
        regressor=Regressor.from_state(stored.part("regressor"), stored.meta["regressor"]).to(device),
        flow=wavelet_from(stored.part("flow"), stored.meta["flow"]).to(device),
        meta=stored.meta,
        sha256=stored.sha256,
        nll_rows=stored.tensors["nll_rows"],
        patients=stored.tensors["patients"],
        floor_rows=stored.tensors["floor_rows"],
    )


def learn_wavelet(request: WaveletRequest, store: Store, *, progress: Progress | None = None) -> WaveletModel:
    """Train a layer's wavelet flow and keep it, or return what another process has trained in the meantime.

    Raises:
        DivergedError: a training diverged twice.
    """
    key = store.key(request.describe())
    path, work = store.path(KIND, key), store.work(KIND, key)
    with exclusive(work):
        if store.find(KIND, key) is None:
            _WaveletTraining(request, work, progress).run(path, key)
    return load_wavelet(path, request)


class _WaveletTraining(LayerTraining):
    """One run from nothing to a file; each stage resumes from its own checkpoints."""

    def run(self, path: Path, key: str) -> None:
        """Train regressor and flow, measure both, write the file."""
        config, seed = self.config.wavelet, self._seed("wavelet")
        regressor, regressed = self._regressor()
        train, validation, test = (_Pairs(self, part, regressor) for part in get_args(Part))
        _, condition = train(0, Shard(0, 1))
        flow = WaveletFlow(config, condition.shape[1]).to(self.device)
        task = WaveletTask(flow, train, validation, seed=seed, identity=artifacts.fingerprint({"key": key}))
        result = fit(
            task,
            wavelet_fit_config(config, seed=seed),
            self.work / "flow",
            progress=self.progress,
            device=self.device,
            stage=f"{self.split.layer}: wavelet flow",
        )
        rows = wavelet_nll_rows(flow, test, config.held_out, seed=self._seed("nll"))
        scale, eta = self._scales()
        floor = dequantisation_entropy(config)
        tensors, flow_meta = wavelet_state(flow)
        regressor_tensors, regressor_meta = regressor.state()
        meta = {
            **self.request.describe(),
            "key": key,
            "flow": flow_meta,
            "regressor": regressor_meta,
            "scale": scale,
            "eta": eta,
            "regressor_rmse_hu": regressed["rmse_hu"],
            "nll": rows.mean().item(),
            "floor": floor,
            "steps": result.steps,
            "seconds": result.seconds,
            "stopped_early": result.stopped_early,
            "trained_on": self.request.slices.description,
            **split_meta(self.request.slices),
            "layer": self.split.layer,
            "invkit": __version__,
            "torch": str(torch.__version__),
        }
        artifacts.save(
            path,
            {
                **{f"flow.{name}": tensor for name, tensor in tensors.items()},
                **{f"regressor.{name}": tensor for name, tensor in regressor_tensors.items()},
                "nll_rows": rows,
                "floor_rows": torch.full_like(rows, floor),
                "patients": test.patients(config.held_out),
            },
            kind=KIND,
            meta=meta,
        )

    def pair(
        self, sampler: PatchSampler, regressor: Regressor, step: int, shard: Shard
    ) -> tuple[Tensor, Tensor]:
        """Return residual r = x - g(z) and condition of this part of a step's patches."""
        config = self.config.wavelet
        drawn = sampler.batch(step, config.batch, shard.slice(config.batch))
        with torch.no_grad():
            z = self.split.phi(drawn.x.to(self.device))
            target = self._target(drawn).to(self.device)
            estimate = regressor(z, (target.shape[-2], target.shape[-1]))
            return target - estimate, grid_condition(regressor, z, estimate, config)

    def wavelet_sampler(self, part: Part) -> PatchSampler:
        """Return the patches of one part of the slices, of the flow's size."""
        return PatchSampler(
            self.request.slices.part(part),
            self.config.wavelet.patch,
            dose=self.config.dose,
            seed=self._seed(f"wavelet {part}"),
        )


class _Pairs:
    """Residuals and conditions of one part of the slices, by step."""

    def __init__(self, training: _WaveletTraining, part: Part, regressor: Regressor) -> None:
        self.training, self.regressor = training, regressor
        self.sampler = training.wavelet_sampler(part)

    def __call__(self, step: int, shard: Shard) -> tuple[Tensor, Tensor]:
        return self.training.pair(self.sampler, self.regressor, step, shard)

    def patients(self, count: int) -> Tensor:
        """Return the number of the patient that each of the first patches is from, `(count,)`."""
        batch = self.training.config.wavelet.batch
        steps = range(-(-count // batch))
        return torch.cat([self.sampler.batch(step, batch).patient for step in steps])[:count]
