"""Training a layer's cINN: regressor, table of codes, flow, held-out figures, one file."""

__all__ = ["LayerRequest", "LayerTraining", "find_layer", "learn_layer", "load_layer"]

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invkit import artifacts
from invkit._version import __version__
from invkit.data.patches import PatchBatch, PatchSampler
from invkit.data.slices import SliceSet, split_meta
from invkit.errors import ConfigError
from invkit.flow.cinn import CINN
from invkit.flow.fiber import FiberErrors, FiberTerm
from invkit.flow.store import cinn_from, cinn_state, round_half
from invkit.flow.table import CodeTable, posterior_entropy, posterior_entropy_rows
from invkit.flow.train import CinnTask, fit_config, nll_rows
from invkit.pipeline.fiber import FiberRows
from invkit.pipeline.held_out import learning_curve, record_calibration
from invkit.pipeline.layer_config import LayerConfig
from invkit.pipeline.scales import layer_scales
from invkit.pipeline.store import Store
from invkit.pipeline.train_vae import Domain
from invkit.representation.regress import squared_error, train_regressor
from invkit.representation.regressor import Regressor
from invkit.representation.trained import TrainedVae
from invkit.sampling.distance import Activation
from invkit.sampling.model import LayerModel
from invkit.split.split import Split
from invkit.training.distributed import all_true, barrier, current_shard
from invkit.training.engine import Shard, fit
from invkit.training.lock import exclusive
from invkit.training.progress import Progress, ProgressEvent, TimeLeft
from invkit.training.seeds import derive_seed
from invkit.training.sharing import in_parts

KIND = "cinn"
BATCH = 32
# Of these through Phi: its activations, up to 64 channels at full resolution, then stay in the cache.
AT_ONCE = 4
HELD_OUT = ("calibration.", "regressed_rows")


@dataclass(frozen=True)
class LayerRequest:
    """What decides how a layer's cINN comes out.

    Args:
        split: the layer or control.
        vae: the code of the target domain.
        slices: what is trained on.
        config: sizes and steps.
        domain: `"low"` for codes of the low-dose image x, `"high"` for those of its high-dose partner y.
        seed: decides every random number.
    """

    split: Split
    vae: TrainedVae
    slices: SliceSet
    config: LayerConfig
    domain: Domain = "low"
    seed: int = 0

    def describe(self) -> dict[str, Any]:
        """Return the request as JSON values; its fingerprint is the key of the result."""
        return {
            "kind": KIND,
            "phi": self.split.describe(),
            "vae": self.vae.sha256,
            "data": self.slices.fingerprint,
            "config": self.config.model_dump(mode="json"),
            "domain": self.domain,
            "seed": self.seed,
        }


def find_layer(request: LayerRequest, store: Store) -> LayerModel | None:
    """Return the trained cINN of a request, bundled or cached, or `None`."""
    found = store.find(KIND, store.key(request.describe()))
    return None if found is None else load_layer(found[0], request, sha256=found[1])


def load_layer(path: Path, request: LayerRequest, *, sha256: str | None = None) -> LayerModel:
    """Read a layer's cINN and refuse it where its provenance is not that of the request.

    Raises:
        ArtifactError: the file is damaged, or was trained for another layer, code, data or configuration.
    """
    stored = artifacts.load(path, kind=KIND, sha256=sha256)
    stored.require(request.describe())
    tensors = stored.tensors
    device = request.vae.vae.decoder.last.device
    return LayerModel(
        split=request.split,
        regressor=Regressor.from_state(stored.part("regressor"), stored.meta["regressor"]).to(device),
        vae=request.vae.vae,
        cinn=cinn_from(stored.part("cinn"), stored.meta["cinn"]).to(device),
        meta=stored.meta,
        sha256=stored.sha256,
        nll_rows=tensors["nll_rows"],
        patients=tensors["patients"],
        floor_rows=tensors.get("floor_rows"),
        held_out={name: value for name, value in tensors.items() if name.startswith(HELD_OUT)},
    )


def learn_layer(
    request: LayerRequest, store: Store, *, out: Path | None = None, progress: Progress | None = None
) -> LayerModel:
    """Train a layer's cINN and keep it, or return what another process has trained in the meantime.

    Args:
        request: what to train.
        store: where it is kept.
        out: the file to write instead of the cache's own.
        progress: called as the training goes on.

    Raises:
        DivergedError: a training diverged twice.
    """
    key = store.key(request.describe())
    path, work = out or store.path(KIND, key), store.work(KIND, key)
    with exclusive(work):
        if out is not None or not all_true(store.find(KIND, key) is not None):
            LayerTraining(request, work, progress).run(path, key)
            barrier()
    return load_layer(path, request)


class LayerTraining:
    """One run from nothing to a file; each stage resumes from its own checkpoints."""

    kind = KIND

    def __init__(self, request: LayerRequest, work: Path, progress: Progress | None) -> None:
        self.request, self.config, self.work, self.progress = request, request.config, work, progress
        self.split, self.vae = request.split, request.vae.vae
        self.device = self.vae.decoder.last.device
        self.samplers = self._samplers(self.vae.patch)

    def run(self, path: Path, key: str) -> None:
        """Train regressor and flow, measure both, write the file."""
        regressor, regressed = self._regressor()
        train, validation, test = (self._table(name, regressor) for name in ("train", "validation", "test"))
        cinn = CINN(self.config.cinn, train.table.condition_shape)
        task = CinnTask(
            cinn.to(self.device),
            train.table,
            validation.table,
            seed=self._seed("cinn"),
            fiber=self._fiber(),
        )
        flow_config = fit_config(self.config.cinn, seed=self._seed("cinn"))
        result = fit(
            task,
            flow_config,
            self.work / "cinn",
            progress=self.progress,
            device=self.device,
            stage=f"{self.split.layer}: flow",
        )
        if current_shard().rank != 0:
            return  # the rest is the same for all
        round_half(cinn)
        rows = nll_rows(cinn, test.table, seed=self._seed("nll"))
        scale, eta = self._scales()
        calibrated, calibration = record_calibration(
            cinn, test.table, test.patients.tolist(), seed=self._seed("calibration")
        )
        tensors, cinn_meta = cinn_state(cinn)
        regressor_tensors, regressor_meta = regressor.state()
        meta = {
            **self.request.describe(),
            "key": key,
            "cinn": cinn_meta,
            "regressor": regressor_meta,
            "scale": scale,
            "eta": eta,
            "regressor_rmse_hu": regressed["rmse_hu"],
            "nll": rows.mean().item(),
            "floor": posterior_entropy(test.table),
            "steps": result.steps,
            "stopped_early": result.stopped_early,
            "learning": {
                "nll": learning_curve(result.history, "nll"),
                "rmse_hu": learning_curve(self.work / "regressor" / "metrics.jsonl", "rmse_hu"),
            },
            "calibration": calibration,
            "trained_on": self.request.slices.description,
            **split_meta(self.request.slices),
            "vae_trained_on": self.request.vae.meta.get("trained_on", ""),
            "layer": self.split.layer,
            "invkit": __version__,
            "torch": str(torch.__version__),
            **self.more(),
        }
        artifacts.save(
            path,
            {
                **_named("cinn", tensors),
                **_named("regressor", regressor_tensors),
                "nll_rows": rows,
                "floor_rows": posterior_entropy_rows(test.table),
                "patients": test.patients,
                "regressed_rows": test.regressed,
                **calibrated,
            },
            kind=self.kind,
            meta=meta,
        )

    def more(self) -> dict[str, Any]:
        """Return what else belongs into the file's provenance."""
        return {}

    def coded(self, x: Tensor, target: Tensor, regressor: Regressor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return mean and log-variance of the codes of patches, the condition of each, and g(z).

        Args:
            x: low-dose patches, `(n, 1, s, s)`, HU.
            target: those of the domain that is sampled.
            regressor: g.
        """
        posterior = self.vae.encode(target)
        size = (x.shape[-2], x.shape[-1])
        estimate = torch.cat([regressor(self.split.phi(part), size) for part in torch.split(x, AT_ONCE)])
        of_z = self.vae.encode(estimate)
        return posterior.mean, posterior.log_var, torch.cat([of_z.mean, of_z.log_var], dim=1), estimate

    def _regressor(self) -> tuple[Regressor, dict[str, float]]:
        config = self.config.regressor
        samplers = self._samplers(config.patch)

        def pairs(part: str, step: int, shard: Shard) -> tuple[Activation, Tensor]:
            drawn = samplers[part].batch(step, config.batch, shard.slice(config.batch))
            return self.split.phi(drawn.x.to(self.device)), self._target(drawn).to(self.device)

        return train_regressor(
            partial(pairs, "train"),
            partial(pairs, "validation"),
            config,
            self.work / "regressor",
            seed=self._seed("g"),
            progress=self.progress,
            device=self.device,
            stage=f"{self.split.layer}: regressor",
        )

    def _table(self, part: str, regressor: Regressor) -> "_Rows":
        rows = self.config.rows if part == "train" else self.config.held_out
        columns: list[list[Tensor]] = [[] for _ in range(5)]
        steps, begun = -(-rows // BATCH), time.monotonic()
        left = TimeLeft(steps)
        with torch.no_grad():

            def batch(step: int) -> tuple[Tensor, ...]:
                pairs = self.samplers[part].batch(step, BATCH)
                target = self._target(pairs).to(self.device)
                mean, log_var, condition, estimate = self.coded(pairs.x.to(self.device), target, regressor)
                error = squared_error(estimate, target, self.config.regressor.border)
                return mean, log_var, condition, pairs.patient, error

            for step, found in enumerate(in_parts(steps, batch, device=self.device)):
                for column, value in zip(columns, found, strict=True):
                    column.append(value)
                if self.progress is not None:
                    now = time.monotonic() - begun
                    stage = f"{self.split.layer}: codes, {part}"
                    self.progress(ProgressEvent(stage, step + 1, steps, now, left.update(step + 1, now)))
        mean, log_var, condition, patients, regressed = (torch.cat(column) for column in columns)
        table = CodeTable(mean, log_var, condition)
        return _Rows(table.rows(slice(rows)), patients.cpu()[:rows], regressed[:rows])

    def _fiber(self) -> FiberTerm | None:
        """Return the fiber term that the configuration asks for, if it does."""
        config = self.config.cinn
        if config.fiber_weight == 0:
            return None
        if self.request.domain == "high":
            raise ConfigError(
                "the fiber term is for low-dose samples: high-dose ones are not meant to lie in the fiber. "
                "Set fiber_weight to 0"
            )
        scale, eta = self._scales()

        def errors(part: str) -> FiberErrors:
            if eta == 0:
                return lambda codes, rows: codes.new_zeros(len(codes))  # every image lies in the fiber
            sampler = self.samplers[part]
            return FiberRows(self.split, self.vae, sampler, batch=BATCH, scale=scale, device=self.device)

        seed = self._seed("fiber")
        return FiberTerm(errors("train"), errors("validation"), rows=config.fiber_rows, seed=seed)

    def _scales(self) -> tuple[float, float]:
        """Return s_Phi, and eta in units of it, from held-out body patches of one dose."""
        seed, pairs = self.request.seed, self.config.pairs
        return layer_scales(self.split, self.samplers["test"], pairs=pairs, seed=seed, device=self.device)

    def _samplers(self, size: int) -> dict[str, PatchSampler]:
        return {
            name: PatchSampler(
                self.request.slices.part(name), size, dose=self.config.dose, seed=self._seed(name)
            )
            for name in ("train", "validation", "test")
        }

    def _target(self, pairs: PatchBatch) -> Tensor:
        return pairs.x if self.request.domain == "low" else pairs.y

    def _seed(self, purpose: str) -> int:
        return derive_seed(self.request.seed, "layer", purpose)


@dataclass(frozen=True)
class _Rows:
    """Codes and conditions of patches.

    Args:
        table: of the patches.
        patients: number of the patient that each is from, `(n,)`.
        regressed: mean squared error of g(z), `(n,)`, HU^2.
    """

    table: CodeTable
    patients: Tensor
    regressed: Tensor


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}
