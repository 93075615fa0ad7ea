"""A training as small as can be that has all that a checkpoint must hold, for all tests here."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from invkit.artifacts import state_fingerprint
from invkit.errors import DivergedError
from invkit.training.engine import FitConfig, FitResult, Shard, fit
from invkit.training.optimiser import adam, cosine
from invkit.training.seeds import derive_seed, generator
from invkit.training.state import module_tensors, optimizer_tensors

BATCH = 8


class Crash(Exception):
    """Ends a training from inside its loss, without a word to anybody."""


def crash_at(*steps: int) -> Callable[[int], None]:
    """Return a hook that raises `Crash` at the first of `steps`, then, when called again, at the next, and so on."""
    left = list(steps)

    def before(step: int) -> None:
        if left and step == left[0]:
            left.pop(0)
            raise Crash

    return before


class TinyTask:
    """Two phases on a network with channels_last weights, batch norm, dropout and tied weights.

    Args:
        steps: of the schedule.
        before: called with the step before each loss; may kill, signal, or return a factor for the loss.
    """

    monitor: str | None = "error"
    identity: str | None = None

    def __init__(self, steps: int, *, before: Callable[[int], float | None] | None = None, lr: float = 1e-2):
        self.steps = steps
        self.lr = lr
        self.before = before or (lambda step: None)
        self.evaluated: list[int] = []
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derive_seed(0, "weights"))
            self.network = nn.Sequential(
                nn.Conv2d(2, 3, 3, padding=1),
                nn.BatchNorm2d(3),
                nn.ReLU(),
                nn.Dropout(0.2),
                nn.Conv2d(3, 1, 1),
            ).to(memory_format=torch.channels_last)
            tied = nn.Linear(4, 4)
            self.critic = nn.Sequential(
                nn.Flatten(), nn.Linear(16, 4), tied, nn.Tanh(), tied, nn.Linear(4, 1)
            )
        self.modules = {"network": self.network, "critic": self.critic}
        self.optimizers = {
            "generator": adam(self.network.parameters(), lr, (0.5, 0.9)),
            "critic": torch.optim.SGD(self.critic.parameters(), lr, momentum=0.9),
        }

    def phases(self, step: int) -> list[str]:
        return ["critic", "critic", "generator"] if step % 2 else ["critic"]

    def loss(self, phase: str, step: int, shard: Shard):
        factor = self.before(step)
        x = torch.randn(BATCH, 2, 4, 4, generator=generator(1, "data", phase, step))[shard.slice(BATCH)]
        y = x.sum(1, keepdim=True)
        out = self.network(x)
        if phase == "critic":
            loss = (self.critic(out.detach()) - self.critic(y)).mean() + 0.1 * self.critic(y).square().mean()
        else:
            loss = (out - y).square().mean() - 0.1 * self.critic(out).mean()
        loss = loss if factor is None else loss * factor
        return loss, {"size": out.detach().abs().mean()}

    def learning_rate(self, phase: str, step: int) -> float:
        return cosine(self.lr, step, self.steps, warmup=2, end=0.1)

    def evaluate(self, step: int) -> dict[str, float]:
        assert not self.network.training
        assert not torch.is_grad_enabled()
        self.evaluated.append(step)
        x = torch.randn(16, 2, 4, 4, generator=generator(1, "held out"))
        return {"error": float((self.network(x) - x.sum(1, keepdim=True)).square().mean())}


class LineTask:
    """Linear regression with plain SGD and a scripted evaluation: what happens can be computed by hand."""

    def __init__(self, evaluations=None, *, monitor: str | None = "error", before=None, lr: float = 0.1):
        self.line = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.line.weight)
        self.modules = {"line": self.line}
        self.optimizers = {"main": torch.optim.SGD(self.line.parameters(), lr)}
        self.evaluations = evaluations or {}
        self.monitor = monitor
        self.before = before or (lambda step: None)
        self.lr = lr
        self.seen: list[int] = []
        self.modes: list[bool] = []

    def phases(self, step: int) -> list[str]:
        return ["main"]

    def loss(self, phase: str, step: int, shard: Shard):
        factor = self.before(step)
        if factor == "diverged":
            raise DivergedError("the critic blew up")
        self.seen.append(step)
        self.modes.append(self.line.training)
        x = torch.ones(4, 1)[shard.slice(4)]
        loss = (self.line(x) - 1).square().mean()
        return loss if factor is None else loss * factor, {}

    def learning_rate(self, phase: str, step: int) -> float:
        return self.lr

    def evaluate(self, step: int) -> dict[str, float]:
        return {"error": self.evaluations[step]} if step in self.evaluations else {}


def config(steps: int = 12, **changes) -> FitConfig:
    return FitConfig(
        **{"checkpoint_every": 4, "evaluate_every": 3, "log_every": 2, **changes, "steps": steps}
    )


def story(folder: Path) -> list[dict]:
    """Return the log without its times."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


def outcome(task: TinyTask, result: FitResult, folder: Path) -> dict:
    """Return everything that must be equal after an undisturbed and a disturbed run."""
    return {
        "modules": state_fingerprint(module_tensors(task.modules)),
        "optimizers": state_fingerprint(optimizer_tensors(task.optimizers)[0]),
        "metrics": result.metrics,
        "best_step": result.best_step,
        "steps": result.steps,
        "exact": result.exact,
        "story": [json.dumps(line) for line in story(folder)],
    }


def train(folder: Path, steps: int = 12, before=None, **changes) -> dict:
    """Run a `TinyTask` in `folder` to its end, or on from where it is, and return its outcome."""
    task = TinyTask(steps, before=before)
    return outcome(task, fit(task, config(steps, **changes), folder), folder)
