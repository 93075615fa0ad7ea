"""The run folder of one training: its checkpoints and log, the same view of them in all processes."""

__all__ = ["Ledger", "RunFolder"]

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invkit import artifacts
from invkit.errors import ArtifactError, ConfigError, ResourceError
from invkit.training.checkpoint import Checkpoints
from invkit.training.history import History
from invkit.training.precision import Precision, faster_precision
from invkit.training.processes.distributed import Shard, all_true, broadcast_json
from invkit.training.task import FitConfig

# These fields do not change what comes out of an undisturbed training, so each session may choose them.
FREE_FIELDS = {"checkpoint_every", "log_every"}


@dataclass
class Ledger:
    """The part of a training's state that is not tensors, in JSON values."""

    step: int = 0
    rollbacks: int = 0
    best: float | None = None
    best_step: int = 0
    best_metrics: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    waiting: int = 0
    start: dict[str, float] = field(default_factory=dict)
    looks: list[tuple[int, float]] = field(default_factory=list)
    figures: dict[str, float | None] = field(default_factory=dict)
    finished: bool = False
    stopped_early: bool = False
    exact: bool = True


class RunFolder:
    """Checkpoints and log of one training; rank 0 writes, and all ranks read the same checkpoint.

    Args:
        path: the folder.
        config: of the training; a checkpoint made with other settings is refused.
        identity: what is trained on what, or `None`; another one is refused as well.
        shard: rank and number of processes.
        device: on which the processes talk to each other.
    """

    def __init__(
        self, path: Path, config: FitConfig, identity: str | None, shard: Shard, device: torch.device
    ):
        self.path = path
        self.config = config
        self.identity = identity
        self.device = device
        self.leader = shard.rank == 0
        self.checkpoints = Checkpoints(path / "checkpoints")
        self.history = History(path / "metrics.jsonl")
        self.precision: Precision = "float32"
        self.environment = {
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "processes": shard.world,
            "device": device.type,
            "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        }

    def settle_precision(self, stored: artifacts.Stored | None, *, bf16: bool) -> Precision:
        """Return what the training is computed in: as it began, or what rank 0 finds faster; checkpoints note it.

        Args:
            stored: the checkpoint that it goes on from.
            bf16: whether a training that begins may be in bfloat16.
        """
        begun: Precision | None = stored.meta["environment"].get("precision") if stored else None
        if begun is None:
            faster = faster_precision(self.device) if bf16 and self.leader else "float32"
            begun = broadcast_json(faster, self.device)
        self.precision = self.environment["precision"] = begun
        return begun

    def write(
        self,
        ledger: Ledger,
        tensors: Mapping[str, Tensor],
        optimizers: Mapping[str, Any],
        *,
        scheduled: bool,
        seconds: float,
    ) -> None:
        """Write a checkpoint of the whole state; all processes wait for it.

        Raises:
            ResourceError: rank 0 cannot write; raised in every process.
        """
        failure: ResourceError | None = None
        if self.leader:
            try:
                meta = {
                    "ledger": asdict(ledger),
                    "optimizers": optimizers,
                    "scheduled": scheduled,
                    "log_bytes": self.history.size(),
                    "seconds": seconds,
                    "config": self.config.model_dump(),
                    "identity": self.identity,
                    "environment": self.environment,
                }
                self.checkpoints.save(ledger.step, tensors, meta)
            except ResourceError as error:
                failure = error
        written = all_true(failure is None, self.device)
        if failure is not None:
            raise failure
        if not written:
            raise ResourceError("rank 0 could not write a checkpoint; see its message")

    def newest(self, *, scheduled: bool = False) -> artifacts.Stored | None:
        """Return the newest valid checkpoint; rank 0 chooses, the others must read the very same.

        Raises:
            ArtifactError: this process cannot read what rank 0 chose.
            ResourceError: another process cannot.
        """
        stored = self.checkpoints.newest(scheduled=scheduled) if self.leader else None
        choice = broadcast_json([stored.meta["step"], stored.sha256] if stored else None, self.device)
        if choice is None:
            return None
        failure: ArtifactError | None = None
        if stored is None:
            try:
                stored = self.checkpoints.read(choice[0], sha256=choice[1])
            except ArtifactError as error:
                failure = error
        if all_true(failure is None, self.device):
            return stored
        raise failure or ResourceError(
            f"another process cannot read the checkpoint of step {choice[0]} in {self.path}; "
            "all of them need the same folder"
        )

    def check_same(self, meta: Mapping[str, Any]) -> None:
        """Compare a checkpoint's settings with this training's.

        Raises:
            ConfigError: one that decides the outcome differs.
        """
        pairs = {"identity": (meta["identity"], self.identity)}
        for name, now in self.config.model_dump(exclude=FREE_FIELDS).items():
            pairs[name] = (meta["config"].get(name), now)
        for name, (then, now) in pairs.items():
            if then != now:
                raise ConfigError(
                    f"the training in {self.path} was begun with {name} {then!r}, now it is {now!r}: "
                    "use the same settings, choose another folder, or delete this one"
                )

    def changed(self, meta: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Return what has changed of versions, threads and processes since a checkpoint, as `[then, now]`."""
        then: Mapping[str, Any] = meta["environment"]
        return {
            name: [then.get(name), now] for name, now in self.environment.items() if then.get(name) != now
        }

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one line to the log, from rank 0."""
        if self.leader:
            self.history.append(record)

    def cut(self, size: int) -> None:
        """Cut the log back, from rank 0."""
        if self.leader:
            self.history.cut(size)
