"""Training a layer's cINN: regressor, table of codes, flow, held-out figures, one file."""

__all__ = [
    "KIND",
    "LayerRequest",
    "LayerTraining",
    "learn",
    "learn_layer",
    "load_layer",
]

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invkit.calibration.keep import record_calibration
from invkit.data.partition import Part
from invkit.data.patches import PatchBatch, PatchSampler
from invkit.denoisers.loaded import AT_ONCE
from invkit.fiber.distance import Activation
from invkit.flow.cinn import CINN
from invkit.flow.config import CinnConfig
from invkit.flow.store import cinn_state, drop_idle, round_half
from invkit.flow.table import CodeTable, gaussian_nll, posterior_entropy, posterior_entropy_rows
from invkit.flow.train import CinnTask, fit_config, nll_rows
from invkit.parts.layer_file import KIND, LayerRequest, LearnedFlow, read_layer, write_layer
from invkit.parts.scales import layer_scales
from invkit.parts.store import Store
from invkit.regressor.regress import Judge, Regressed, Regression, squared_error, train_regressor
from invkit.regressor.regressor import Regressor
from invkit.sampling.base import LayerModel, estimate_image
from invkit.split.split import Split
from invkit.training.engine import Shard, fit
from invkit.training.feed import Feed
from invkit.training.history import learning_curve
from invkit.training.processes.distributed import broadcast_json
from invkit.training.processes.workers import side_by_side
from invkit.training.progress import Progress, report_progress
from invkit.training.seeds import derive_seed
from invkit.training.task import FitConfig, FitResult, Task

BATCH = 32
JUDGED = 64
KNOWN = 0.02  # nats per dimension that g may leave open of a code where z tells nearly all of it


def load_layer(path: Path, request: LayerRequest, *, sha256: str | None = None) -> LayerModel:
    """Read a layer's cINN and refuse it where its provenance is not that of the request.

    Raises:
        ArtifactError: the file is damaged, or was trained for another layer, code, data or configuration.
    """
    fields, held_out = read_layer(path, request, sha256)
    return LayerModel(vae=request.vae.vae, held_out=held_out, **fields)


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
    return load_layer(learn(LayerTraining, request, store, out=out, progress=progress), request)


def learn(
    training: "type[LayerTraining]",
    request: LayerRequest,
    store: Store,
    *,
    out: Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train what a request is for and keep it; return its file. Arguments and errors are those of `learn_layer`."""
    return store.keep(
        request.describe(), lambda work, key: training(request, work, progress).run(key), out=out
    )


class LayerTraining:
    """One run from nothing to a file; each stage resumes from its own checkpoints."""

    def __init__(self, request: LayerRequest, work: Path, progress: Progress | None) -> None:
        self.request, self.config, self.work, self.progress = request, request.config, work, progress
        self.split, self.vae, self.device = request.split, request.vae.vae, request.device
        self.samplers = self._samplers(self.patch)
        self.known = False  # whether z tells nearly all of the code

    @property
    def patch(self) -> int:
        """Side of the patches that are coded."""
        return self.vae.patch

    def run(self, key: str) -> Callable[[Path], None]:
        """Train regressor and flow; return what measures both and writes the file, which one process does for all."""
        found = self.regressor()
        known = found.metrics["code_nll"] - found.metrics["code_floor"] <= KNOWN
        self.known = broadcast_json(known, self.device)
        learned = self.learned(found.regressor, key)

        def write(path: Path) -> None:
            flow = learned()
            meta = {
                "key": key,
                "regressor_rmse_hu": found.metrics["rmse_hu"],
                "learning": {**flow.meta.get("learning", {}), **found.learning},
            }
            write_layer(path, self.request, found.regressor, flow, self._scales(), meta)

        return write

    def learned(self, regressor: Regressor, key: str) -> Callable[[], LearnedFlow]:
        """Train the flow given g; return what measures it."""
        config = self.config.where_known() if self.known else self.config
        train, validation, test = (self._table(part, rows, regressor) for part, rows in config.parts.items())
        cinn, result = self.fit_cinn(
            train.table, validation.table, purpose="cinn", folder="cinn", stage="flow", config=config.cinn
        )

        def measure_flow() -> LearnedFlow:
            flow = self.measured_cinn(cinn, result, test.table, test.patients)
            calibrated, calibration = record_calibration(
                cinn, test.table, test.patients.tolist(), seed=self.seed("calibration")
            )
            meta = {
                "learning": {"nll": learning_curve(result.history, "nll")},
                "calibration": calibration,
                "vae_trained_on": self.request.vae.meta.get("trained_on", ""),
                **self.more(),
            }
            rows = self._regressed(regressor)
            return replace(flow, tensors={"regressed_rows": rows, **calibrated}, meta=meta)

        return measure_flow

    def more(self) -> dict[str, Any]:
        """Return what else belongs into the file's provenance."""
        return {}

    def coded(
        self,
        split: Split,
        x: Tensor,
        target: Tensor,
        regressor: Regressor,
        *,
        stages: int | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean and log-variance of the codes of patches, and the condition of each.

        Args:
            split: the layer's, or a copy of it.
            x: low-dose patches, `(n, 1, s, s)`, HU.
            target: those of the domain that is sampled.
            regressor: g.
            stages: of g's descent, at most; by default as many as make conditions.
        """
        posterior = self.vae.encode(target)
        size = (x.shape[-2], x.shape[-1])
        estimate = torch.cat(
            [
                estimate_image(split, regressor, split.phi(part), size, stages=stages)
                for part in torch.split(x, AT_ONCE)
            ]
        )
        # Where z is constant, so is the estimate: one of them is encoded.
        same = bool((estimate == estimate[:1]).all())
        of_z = self.vae.encode(estimate[:1] if same else estimate)
        condition = torch.cat([of_z.mean, of_z.log_var], dim=1)
        return posterior.mean, posterior.log_var, condition.expand(len(x), -1)

    def regressor(self) -> Regressed:
        """Fit g; return it with its held-out figures."""
        config = self.config.regressor
        samplers = self._samplers(config.patch)
        for part in ("train", "validation"):
            # All at once, for each batch alone is too little to share out.
            samplers[part].prepare(range(config.stage_batches), config.batch)
        feeds = {part: self.feed(sampler, config.batch) for part, sampler in samplers.items()}

        def pairs(part: str, step: int, shard: Shard) -> tuple[Activation, Tensor]:
            x, target = feeds[part].batch((step, shard), following=(step + 1, shard))
            return self.split.phi(x), target

        return train_regressor(
            Regression(partial(pairs, "train"), partial(pairs, "validation"), self.split.phi, self._judge()),
            config,
            self.work / "regressor",
            seed=self.seed("g"),
            progress=self.progress,
            device=self.device,
            stage=f"{self.split.layer}: regressor",
        )

    def _judge(self) -> Judge:
        """Return a function that measures how well codes of validation patches are known from z alone, without a flow."""
        drawn = self.samplers["validation"].batch(0, JUDGED)
        target = self.target(drawn).to(self.device)

        def judge(regressor: Regressor, stages: int) -> dict[str, float]:
            x = drawn.x.to(self.device)
            mean, log_var, condition = self.coded(self.split, x, target, regressor, stages=stages)
            codes = CodeTable(mean, log_var, condition)
            return {
                "code_nll": gaussian_nll(mean, log_var, condition[:, : mean.shape[1]]),
                "code_floor": posterior_entropy(codes),
            }

        return judge

    def fitted(self, task: Task, config: FitConfig, folder: str, stage: str) -> FitResult:
        """Train what a task says; return what came of it.

        Args:
            task: whose networks are on the device.
            config: how long and how carefully.
            folder: of this stage, below that of the run.
            stage: what progress calls it.
        """
        return fit(
            task,
            config,
            self.work / folder,
            progress=self.progress,
            device=self.device,
            stage=f"{self.split.layer}: {stage}",
        )

    def fit_cinn(
        self,
        train: CodeTable,
        validation: CodeTable,
        *,
        purpose: str,
        folder: str,
        stage: str,
        config: CinnConfig | None = None,
    ) -> tuple[CINN, FitResult]:
        """Return a cINN that was trained on a table.

        Args:
            train: codes and conditions.
            validation: those that decide when training stops.
            purpose: names its random numbers.
            folder: as for `fitted`.
            stage: as for `fitted`.
            config: by default that of the layer's settings.
        """
        config, seed = config or self.config.cinn, self.seed(purpose)
        cinn = CINN(config, train.condition_shape).to(self.device)
        task = CinnTask(cinn, train, validation, seed=seed)
        return cinn, self.fitted(task, fit_config(config, seed=seed), folder, stage)

    def measured_cinn(self, cinn: CINN, result: FitResult, test: CodeTable, patients: Tensor) -> LearnedFlow:
        """Return a cINN, rounded to what is stored, with its likelihoods of a table."""
        round_half(cinn)
        drop_idle(cinn)
        rows = nll_rows(cinn, test, seed=self.seed("nll"))
        floor = posterior_entropy_rows(test)
        return LearnedFlow("cinn", cinn_state(cinn), result, rows, posterior_entropy(test), floor, patients)

    def _table(self, part: str, rows: int, regressor: Regressor) -> "_Rows":
        columns: list[list[Tensor]] = [[] for _ in range(4)]
        steps = -(-rows // BATCH)
        stage = f"{self.split.layer}: codes, {part}"
        with torch.no_grad():

            def batch(step: int, split: Split) -> tuple[Tensor, ...]:
                pairs = self.samplers[part].batch(step, BATCH)
                target = self.target(pairs).to(self.device)
                codes = self.coded(split, pairs.x.to(self.device), target, regressor)
                return *codes, pairs.patient

            batches = side_by_side(steps, batch, self.split, device=self.device)
            for found in report_progress(batches, stage, steps, self.progress):
                for column, value in zip(columns, found, strict=True):
                    column.append(value)
        mean, log_var, condition, patients = (torch.cat(column) for column in columns)
        return _Rows(CodeTable(mean, log_var, condition).rows(slice(rows)), patients.cpu()[:rows])

    @torch.no_grad()
    def _regressed(self, regressor: Regressor) -> Tensor:
        """Return the squared errors of g with all its stages on test patches of the size that it was fitted on, `(n,)`, HU^2.

        They are of the same patients as the first patches of the test table, and no more than it has.
        """
        config = self.config
        count = min(config.regressed, config.held_out)
        sampler = self.sampler("test", config.regressor.patch)

        def errors(step: int, split: Split) -> Tensor:
            pairs = sampler.batch(step, BATCH)
            target = self.target(pairs).to(self.device)
            size = (target.shape[-2], target.shape[-1])
            estimate = regressor(split.phi(pairs.x.to(self.device)), size, phi=split.phi)
            return squared_error(estimate, target)

        found = side_by_side(-(-count // BATCH), errors, self.split, device=self.device)
        return torch.cat([*found])[:count]

    def _scales(self) -> tuple[float, float]:
        """Return s_Phi, and eta in units of it, from held-out body patches of one dose."""
        seed, pairs = self.request.seed, self.config.pairs
        return layer_scales(self.split, self.samplers["test"], pairs=pairs, seed=seed, device=self.device)

    def sampler(self, part: Part, size: int, purpose: str = "") -> PatchSampler:
        """Return the patches of one part of the slices.

        Args:
            part: which.
            size: side of the patches, pixels.
            purpose: names their random numbers; by default the part does.
        """
        slices, seed = self.request.slices.part(part), self.seed(purpose or part)
        return PatchSampler(slices, size, dose=self.config.dose, seed=seed)

    def _samplers(self, size: int) -> dict[str, PatchSampler]:
        return {part: self.sampler(part, size) for part in self.config.parts}

    def feed(self, sampler: PatchSampler, count: int) -> Feed[tuple[int, Shard]]:
        """Return low-dose patches and those of the domain, `(count / world, 1, s, s)`, HU, by step and shard, on the device."""

        def part(key: tuple[int, Shard]) -> tuple[Tensor, Tensor]:
            step, shard = key
            drawn = sampler.batch(step, count, shard.slice(count))
            return drawn.x, self.target(drawn)

        return Feed(part, self.device)

    def target(self, pairs: PatchBatch) -> Tensor:
        """Return the patches of the domain that is sampled, `(n, 1, s, s)`, HU."""
        return pairs.of(self.request.domain)

    def seed(self, purpose: str) -> int:
        """Return the seed of one purpose."""
        return derive_seed(self.request.seed, "layer", purpose)


@dataclass(frozen=True)
class _Rows:
    """Codes and conditions of patches.

    Args:
        table: of the patches.
        patients: number of the patient that each is from, `(n,)`.
    """

    table: CodeTable
    patients: Tensor
