"""The training loop, one for all: exact resume, guards, one or more optimisers, one or more processes."""

__all__ = ["FitConfig", "FitResult", "Shard", "Task", "fit"]

import contextlib
import math
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from invkit import artifacts
from invkit.errors import ConfigError, DivergedError, ResourceError
from invkit.training.folder import Ledger, RunFolder
from invkit.training.lock import exclusive
from invkit.training.precision import precision_of_training, train_in
from invkit.training.processes.distributed import (
    Shard,
    average,
    average_gradients,
    broadcast_json,
    broadcast_tensors,
    current_shard,
    in_own_group,
)
from invkit.training.processes.interrupt import Interrupted, Interrupts, interrupts
from invkit.training.progress import Progress, ProgressEvent, TimeLeft
from invkit.training.seeds import derive_seed
from invkit.training.state import (
    copy_state,
    module_tensors,
    optimizer_tensors,
    restore_modules,
    restore_optimizers,
)
from invkit.training.task import FitConfig, FitResult, Task

REPORT_SECONDS = 0.2


def fit(
    task: Task,
    config: FitConfig,
    folder: Path,
    *,
    progress: Progress | None = None,
    device: torch.device | str = "cpu",
    stage: str = "training",
) -> FitResult:
    """Train `task`, going on from the newest valid checkpoint in `folder`.

    Afterwards its modules hold the result, in eval mode.

    The result is bit for bit that of an undisturbed run on the same machine with the same versions and
    threads, wherever and however often a run was killed; it differs where those change, and then
    `FitResult.exact` is false. A finished training is not repeated: its result is read back. In a
    torch.distributed group, each process calls `fit` with the same task, rank 0 alone writes, and `folder`
    must be the same for all.

    Args:
        task: what is trained; made from seeds, so that every call begins with the same parameters.
        config: steps, seed and guards.
        folder: run folder; holds `checkpoints/` and `metrics.jsonl`, and one process group at a time.
        progress: receives the progress of the training, at most every 0.2 s.
        device: where the task's modules are.
        stage: what progress calls this training.

    Raises:
        ConfigError: `folder` holds a training with other settings.
        ArtifactError: `folder` holds a training of another model.
        DivergedError: loss, gradient, parameters or monitored figure are not finite, rollbacks used up.
        ResourceError: the folder cannot be written, memory is short, or another process is lost.
        Interrupted: SIGTERM, SIGUSR1 or Ctrl-C came; a checkpoint was written first.
    """
    device = torch.device(device)
    shard = current_shard()
    lock = (
        exclusive(folder, progress=progress)
        if shard.rank == 0 or in_own_group()
        else contextlib.nullcontext()
    )
    # Dropout and the like draw from the global generators; they get the caller's state back.
    fork = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    try:
        with lock, interrupts() as received, fork, precision_of_training():
            return _Run(task, config, folder, progress, device, stage, shard, received).run()
    except (MemoryError, RuntimeError) as error:
        # On a CPU, torch has no type of its own for this.
        typed = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not typed and "DefaultCPUAllocator" not in str(error):
            raise
        raise ResourceError(
            f"not enough memory on {device} to train: {error}. Use a smaller batch; checkpoints are intact"
        ) from error


class _Run:
    def __init__(
        self,
        task: Task,
        config: FitConfig,
        folder: Path,
        progress: Progress | None,
        device: torch.device,
        stage: str,
        shard: Shard,
        received: Interrupts,
    ):
        self.task = task
        self.config = config
        self.progress = progress if shard.rank == 0 else None
        self.device = device
        self.stage = stage
        self.shard = shard
        self.received = received
        self.leader = shard.rank == 0
        self.monitor: str | None = getattr(task, "monitor", None)
        self.enough: Callable[[Sequence[tuple[int, float]]], bool] | None = getattr(task, "enough", None)
        self.folder = RunFolder(folder, config, getattr(task, "identity", None), shard, device)
        self.parameters = {
            phase: [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
            for phase, optimizer in task.optimizers.items()
        }
        self.ledger = Ledger()
        self.best: dict[str, Tensor] = {}
        self.begun = time.monotonic()
        self.seconds_before = 0.0
        self.figures: dict[str, dict[str, Tensor | float]] = {}
        self.complaint: str | None = None
        self.shown: dict[str, float] = {}
        self.time_left = TimeLeft(config.steps, window=300)
        self.reported = -math.inf

    def run(self) -> FitResult:
        self._begin()
        while not self.ledger.finished:
            try:
                self._advance()
            except DivergedError as error:
                self._roll_back(error)
        result = self._conclude()
        if self.received.signal is not None:
            raise Interrupted(
                self.received.signal, f"stopped by a signal; the training in {self.folder.path} is done"
            )
        return result

    def _begin(self) -> None:
        if self.leader:
            self.folder.checkpoints.clean()
        stored = self.folder.newest()
        train_in(self.folder.settle_precision(stored, bf16=getattr(self.task, "bf16", False)))
        if stored is None:
            self.folder.cut(0)
        else:
            self._restore(stored)
            self.seconds_before = float(stored.meta["seconds"])
        broadcast_tensors(module_tensors(self.task.modules).values())
        self._train_mode(True)
        if stored is None:
            if self.config.keep_start:
                self._evaluate()
                self.ledger.start = self.ledger.metrics
            self._checkpoint(scheduled=True)
        self._report(force=True)

    def _advance(self) -> None:
        """Do one step and all that is due after it."""
        ledger, config = self.ledger, self.config
        agreed = self._train_step(ledger.step)
        ledger.step += 1
        last = ledger.step == config.steps
        if last or ledger.step % config.log_every == 0:
            self._log()
        if last or ledger.step % config.evaluate_every == 0:
            self._evaluate()
        ledger.finished = ledger.finished or last
        # One process need not wait for the others to hear of a signal that came meanwhile.
        stop = self.received.signal if self.shard.world == 1 else agreed
        scheduled = ledger.finished or ledger.step % config.checkpoint_every == 0
        if scheduled or stop is not None:
            self._checkpoint(scheduled=scheduled)
        self._report(force=last)
        if stop is not None and not ledger.finished:
            raise Interrupted(
                stop,
                f"stopped by a signal after step {ledger.step} of {config.steps}; "
                f"the same command goes on from the checkpoint in {self.folder.path}",
            )

    def _train_step(self, step: int) -> int | None:
        """Descend once in each phase; return the signal that asks to stop, the same in all processes."""
        phases = self.task.phases(step)
        checks = [self._descend(phase, turn, step) for turn, phase in enumerate(phases)]
        if not checks:
            return None
        # The only point of a step that waits for the device. What a bad gradient did to the parameters is
        # undone by the checkpoint that is gone back to.
        rows = torch.stack(checks).tolist()
        for phase, (loss, norm, _) in zip(phases, rows, strict=True):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                reason = self.complaint or f"loss {loss:.4g}, gradient norm {norm:.4g}"
                raise DivergedError(f"phase {phase!r} at step {step}: {reason}")
        if not any(asked for _, _, asked in rows):
            return None
        return self.received.signal or signal.SIGTERM

    def _descend(self, phase: str, turn: int, step: int) -> Tensor:
        """Do one optimiser step; return loss, gradient norm and whether to stop, shape `(3,)`."""
        optimizer, parameters = self.task.optimizers[phase], self.parameters[phase]
        rate = self.task.learning_rate(phase, step) * 0.5**self.ledger.rollbacks
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        self._seed_global("loss", step, turn, self.shard.rank)
        figures: dict[str, Any] = {}
        try:
            loss, figures = self.task.loss(phase, step, self.shard)
            loss.backward(inputs=parameters)
        except DivergedError as error:
            # The other processes must learn of it, so it goes on as a loss that is not finite.
            loss, self.complaint = torch.full((), math.nan, device=self.device), str(error)
        asked = torch.full((), float(self.received.signal is not None), device=loss.device)
        mean_loss, asked = average_gradients(parameters, torch.stack([loss.detach().float(), asked])).unbind()
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = get_total_norm(gradients).to(loss.device).float()
        if self.config.clip_norm is not None and not _is_within(norm, self.config.clip_norm):
            clip_grads_with_norm_(parameters, self.config.clip_norm, norm)
        optimizer.step()
        self.figures[phase] = {"loss": mean_loss, "gradient_norm": norm, "rate": rate, **figures}
        return torch.stack([mean_loss, norm, asked])

    def _means(self) -> dict[str, float | None]:
        """Return each phase's latest figures, averaged over the processes; `None` is not finite."""
        names = [f"{phase}/{name}" for phase, figures in self.figures.items() for name in figures]
        values = [float(value) for figures in self.figures.values() for value in figures.values()]
        means = average(torch.tensor(values, dtype=torch.float64)).tolist()
        finite = [value if math.isfinite(value) else None for value in means]
        # A phase that has not come since the last checkpoint keeps the figures it had there.
        return dict(sorted({**self.ledger.figures, **dict(zip(names, finite, strict=True))}.items()))

    def _log(self) -> None:
        means = self._means()
        self.shown.update({name: value for name, value in means.items() if value is not None})
        self._append({"training": means})

    def _evaluate(self) -> None:
        """Evaluate in rank 0, share the figures, keep the best state and stop where patience ran out."""
        ledger = self.ledger
        found: dict[str, Any] = {}
        if self.leader:
            self._train_mode(False)
            self._seed_global("evaluate", ledger.step)
            try:
                with torch.no_grad():
                    found = {
                        "metrics": {name: float(v) for name, v in self.task.evaluate(ledger.step).items()}
                    }
            except DivergedError as error:
                found = {"reason": str(error)}
            self._train_mode(True)
        found = broadcast_json(found, self.device)
        if "reason" in found:
            raise DivergedError(f"evaluation after step {ledger.step}: {found['reason']}")
        metrics: dict[str, float] = found["metrics"]
        if metrics:
            self._append({"evaluation": metrics})
        self.shown.update(metrics)
        ledger.metrics = {name: value for name, value in metrics.items() if math.isfinite(value)}
        if self.monitor is None or not metrics:
            return
        if self.monitor not in metrics:
            raise ConfigError(
                f"the task monitors {self.monitor!r}, its evaluation gives {', '.join(metrics)}"
            )
        value = metrics[self.monitor]
        if not math.isfinite(value):
            raise DivergedError(f"evaluation after step {ledger.step}: {self.monitor} is {value}")
        if ledger.best is None or value < ledger.best:
            ledger.best, ledger.best_step, ledger.best_metrics = value, ledger.step, ledger.metrics
            self.best = copy_state(module_tensors(self.task.modules, "best"))
        lowest = min((earlier for step, earlier in ledger.looks if step > 0), default=math.inf)
        ledger.looks.append((ledger.step, value))
        if ledger.step == 0:
            return
        if self.enough is not None and self.enough(ledger.looks):
            ledger.finished = True
        if value < lowest:
            ledger.waiting = 0
        else:
            ledger.waiting += 1
            if self.config.patience is not None and ledger.waiting >= self.config.patience:
                ledger.finished = True
                ledger.stopped_early = ledger.step < self.config.steps

    def _checkpoint(self, *, scheduled: bool) -> None:
        """Write the whole state.

        Raises:
            DivergedError: a parameter is not finite, so nobody could go on from there.
        """
        finite = [p.detach().isfinite().all() for group in self.parameters.values() for p in group]
        if finite and not torch.stack(finite).all().item():
            raise DivergedError(f"parameters after step {self.ledger.step} are not finite")
        # Running means of batch norm differ between processes; from here on they agree, as they would after
        # a resume.
        broadcast_tensors(buffer for module in self.task.modules.values() for buffer in module.buffers())
        self.ledger.figures = self._means()
        tensors, plain = optimizer_tensors(self.task.optimizers)
        state = {**module_tensors(self.task.modules), **tensors, **self.best}
        self.folder.write(self.ledger, state, plain, scheduled=scheduled, seconds=self._seconds())

    def _restore(self, stored: artifacts.Stored) -> None:
        meta = stored.meta
        self.folder.check_same(meta)
        restore_modules(self.task.modules, stored.tensors)
        restore_optimizers(self.task.optimizers, stored.tensors, meta["optimizers"])
        self.ledger = Ledger(**meta["ledger"])
        self.figures, self.complaint = {}, None
        self.best = {k: value.to(self.device) for k, value in stored.tensors.items() if k.startswith("best/")}
        self.folder.cut(meta["log_bytes"])
        changed = self.folder.changed(meta)
        if changed and not self.ledger.finished:
            self.ledger.exact = False
            self._append({"event": "resumed, not bit-exact", "changed": changed})

    def _roll_back(self, error: DivergedError) -> None:
        """Go back to the last scheduled checkpoint at half the learning rate, or give up."""
        step, done = self.ledger.step, self.ledger.rollbacks
        stored = self.folder.newest(scheduled=True) if done < self.config.max_rollbacks else None
        if stored is None:
            self._append({"event": "diverged", "reason": str(error)})
            raise DivergedError(
                f"training diverged at {error}, after {done} return(s) to a checkpoint at half the rate. "
                "Lower the learning rate, or look for values that are not finite in the training data; "
                f"the last good state is in {self.folder.path}"
            ) from error
        self._restore(stored)
        self._train_mode(True)
        self.ledger.rollbacks = done + 1
        self._append({"event": "rolled back", "from": step, "reason": str(error), "rollbacks": done + 1})

    def _conclude(self) -> FitResult:
        ledger = self.ledger
        if self.best:
            restore_modules(self.task.modules, self.best, "best")
        self._train_mode(False)
        return FitResult(
            steps=ledger.step,
            metrics=ledger.best_metrics if self.best else ledger.metrics,
            history=self.folder.history.path,
            stopped_early=ledger.stopped_early,
            seconds=self._seconds(),
            best_step=ledger.best_step if self.best else ledger.step,
            rollbacks=ledger.rollbacks,
            exact=ledger.exact,
            precision=self.folder.precision,
            processes=self.shard.world,
            start=ledger.start,
        )

    def _append(self, record: Mapping[str, Any]) -> None:
        self.folder.append({"step": self.ledger.step, "seconds": round(self._seconds(), 3), **record})

    def _report(self, *, force: bool) -> None:
        now = time.monotonic()
        if self.progress is None or (now - self.reported < REPORT_SECONDS and not force):
            return
        self.reported = now
        step = self.ledger.step
        left = 0.0 if self.ledger.finished else self.time_left.update(step, now)
        self.progress(
            ProgressEvent(self.stage, step, self.config.steps, self._seconds(), left, dict(self.shown))
        )

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.begun

    def _train_mode(self, mode: bool) -> None:
        for module in self.task.modules.values():
            module.train(mode)

    def _seed_global(self, *path: int | str) -> None:
        seed = derive_seed(self.config.seed, "engine", *path)
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)


def _is_within(norm: Tensor, limit: float) -> bool:
    """Tell whether gradients are certainly left as they are by clipping; a device that works ahead is not asked."""
    # torch adds 1e-6 to the norm before it compares.
    return norm.device.type == "cpu" and float(norm) + 2e-6 < 0.999 * limit
