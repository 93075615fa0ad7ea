"""Training a layer's wavelet flow: regressor, flow, held-out figures, one file."""

__all__ = ["KIND", "WaveletRequest", "find_wavelet", "fit_grid", "learn_wavelet", "load_wavelet"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from invkit import artifacts
from invkit.data.partition import Part
from invkit.data.patches import PatchSampler
from invkit.parts.layer import LayerTraining, learn
from invkit.parts.layer_file import LayerRequest, LearnedFlow, read_layer
from invkit.parts.store import Store
from invkit.regressor.regressor import Regressor
from invkit.samplers.wavelet.config import WaveletConfig
from invkit.samplers.wavelet.fit import (
    GridPairs,
    WaveletTask,
    dequantisation_entropy,
    wavelet_fit_config,
    wavelet_nll_rows,
)
from invkit.samplers.wavelet.flow import WaveletFlow
from invkit.samplers.wavelet.model import WaveletModel, grid_condition
from invkit.samplers.wavelet.store import wavelet_from, wavelet_state
from invkit.sampling.base import estimated
from invkit.training.engine import Shard, fit
from invkit.training.progress import Progress
from invkit.training.task import FitResult

KIND = "wavelet"


@dataclass(frozen=True)
class WaveletRequest(LayerRequest):
    """What decides how a layer's wavelet flow comes out. The VAE does not: it is a reference only."""

    @property
    def settings(self) -> WaveletConfig:
        """Of the flow and its training."""
        return self.config.settings("wavelet", WaveletConfig)

    def describe(self) -> dict[str, Any]:
        """Return the request as JSON values; its fingerprint is the key of the result."""
        config = self.config
        return {
            "kind": KIND,
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


def find_wavelet(request: WaveletRequest, store: Store) -> WaveletModel | None:
    """Return the trained flow of a request, bundled or cached, or `None`."""
    found = store.find(KIND, store.key(request.describe()))
    return None if found is None else load_wavelet(found[0], request, sha256=found[1])


def load_wavelet(path: Path, request: WaveletRequest, *, sha256: str | None = None) -> WaveletModel:
    """Read a layer's wavelet flow and refuse it where its provenance is not that of the request.

    Raises:
        ArtifactError: the file is damaged, or was trained for another layer, data or configuration.
    """
    return WaveletModel(**read_layer(path, request, sha256, wavelet_from, "flow")[0])


def learn_wavelet(request: WaveletRequest, store: Store, *, progress: Progress | None = None) -> WaveletModel:
    """Train a layer's wavelet flow and keep it, or return what another process has trained in the meantime.

    Raises:
        DivergedError: a training diverged twice.
    """
    return load_wavelet(learn(_WaveletTraining, request, store, progress=progress), request)


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
    result = fit(
        WaveletTask(flow, train, validation, seed=seed, identity=artifacts.fingerprint({"key": key})),
        wavelet_fit_config(config, seed=seed),
        training.work / "flow",
        progress=training.progress,
        device=training.device,
        stage=f"{training.split.layer}: {stage}",
    )
    return flow, result


class _WaveletTraining(LayerTraining):
    """One run from nothing to a file; each stage resumes from its own checkpoints."""

    @property
    def settings(self) -> WaveletConfig:
        """Of the flow and its training."""
        return self.config.settings("wavelet", WaveletConfig)

    def learned(self, regressor: Regressor, key: str) -> Callable[[], LearnedFlow]:
        """Train the flow given g; return what measures it."""
        config = self.settings
        *pairs, test = (_Pairs(self, part, regressor) for part in get_args(Part))
        flow, result = fit_grid(self, config, pairs, key, purpose="wavelet", stage="wavelet flow")

        def measured() -> LearnedFlow:
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

        return measured

    @torch.no_grad()
    def pair(self, x: Tensor, target: Tensor, regressor: Regressor) -> tuple[Tensor, Tensor]:
        """Return residual r = target - g(Phi(x)) and condition of patches `(n, 1, s, s)`, HU."""
        z = self.split.phi(x)
        estimate = estimated(self.split, regressor, z, target.shape[-2:])
        return target - estimate, grid_condition(regressor, z, estimate, self.settings)

    def wavelet_sampler(self, part: Part) -> PatchSampler:
        """Return the patches of one part of the slices, of the flow's size."""
        return PatchSampler(
            self.request.slices.part(part),
            self.settings.patch,
            dose=self.config.dose,
            seed=self.seed(f"wavelet {part}"),
        )


class _Pairs:
    """Residuals and conditions of one part of the slices, by step."""

    def __init__(self, training: _WaveletTraining, part: Part, regressor: Regressor) -> None:
        self.training, self.regressor = training, regressor
        self.sampler = training.wavelet_sampler(part)
        self.feed = training.feed(self.sampler, training.settings.batch)

    def __call__(self, step: int, shard: Shard) -> tuple[Tensor, Tensor]:
        x, target = self.feed.batch((step, shard), following=(step + 1, shard))
        return self.training.pair(x, target, self.regressor)

    def patients(self, count: int) -> Tensor:
        """Return the number of the patient that each of the first patches is from, `(count,)`."""
        batch = self.training.settings.batch
        steps = range(-(-count // batch))
        return torch.cat([self.sampler.batch(step, batch).patient for step in steps])[:count]
