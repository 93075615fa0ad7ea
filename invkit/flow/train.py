"""Training of the flow on a table of codes, and the held-out figures that compare layers pair by pair."""

__all__ = ["CinnTask", "fit_config", "nll_rows", "train_cinn"]

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from invkit.artifacts import fingerprint
from invkit.flow.cinn import CINN
from invkit.flow.config import CinnConfig
from invkit.flow.table import CodeTable, posterior_entropy
from invkit.training.engine import FitConfig, Shard, fit
from invkit.training.optimiser import cosine
from invkit.training.precision import in_float64
from invkit.training.progress import Progress
from invkit.training.seeds import generator
from invkit.training.task import FitResult

ROWS_AT_ONCE = 1024
SOLVED_PART = 0.1


@torch.no_grad()
def nll_rows(cinn: CINN, table: CodeTable, seed: int, *, draws: int = 1) -> Tensor:
    """Return the NLL of each row, `(n,)`, nats per dimension, averaged over `draws` posterior samples.

    The samples depend on the seed, the rows' order and the size of a code alone: every layer and control that
    is given the same seed is judged on the same codes, so that their differences are paired. Computed in eval
    mode.

    Args:
        cinn: the flow.
        table: held-out rows.
        seed: of the posterior samples.
        draws: posterior samples for each row.
    """
    training = cinn.training
    cinn.eval()
    total = torch.zeros(len(table), device=table.mean.device)
    for draw in range(draws):
        z_bar = table.sample(generator(seed, "held-out posterior", draw))
        rows = zip(torch.split(z_bar, ROWS_AT_ONCE), torch.split(table.condition, ROWS_AT_ONCE), strict=True)
        total += torch.cat([cinn.nll(codes, condition) for codes, condition in rows])
    cinn.train(training)
    return total / draws


class CinnTask:
    """Maximum likelihood of posterior samples: what `training.fit` needs to train a flow (a `training.Task`).

    Rows come in epochs, each a permutation of (seed, epoch); the posterior noise of a step is drawn from
    (seed, step). A flow without a start gets one from the training rows. The monitor is the held-out NLL in
    nats per dimension.

    Args:
        cinn: the flow; its config's training settings are used.
        train: training rows.
        held_out: rows that decide when to stop; their posterior noise is fixed.
        seed: of order and noise.
    """

    monitor: str | None = "nll"

    def __init__(
        self,
        cinn: CINN,
        train: CodeTable,
        held_out: CodeTable,
        *,
        seed: int = 0,
    ) -> None:
        self.cinn, self.train, self.held_out, self.seed = cinn, train, held_out, seed
        self.config = cinn.config
        if not cinn.initialised:
            cinn.initialise(train, seed=seed)
        self.modules: Mapping[str, nn.Module] = {"cinn": cinn}
        self.optimizers: Mapping[str, torch.optim.Optimizer] = {"main": _adam(cinn, self.config)}
        self.identity = fingerprint(
            {
                "kind": "cinn",
                "config": self.config.model_dump(mode="json"),
                "train": train.fingerprint(),
                "held_out": held_out.fingerprint(),
                "seed": seed,
            }
        )
        self._permutation = lru_cache(maxsize=2)(self._make_permutation)

    def _make_permutation(self, epoch: int) -> Tensor:
        return torch.randperm(len(self.train), generator=generator(self.seed, "rows", epoch))

    def batch_rows(self, step: int) -> Tensor:
        """Return the indices of a step's rows, `(batch,)`."""
        size, n = self.config.batch, len(self.train)
        place = torch.arange(step * size, (step + 1) * size)
        epochs = place // n
        spanned = range(int(epochs[0]), int(epochs[-1]) + 1)
        parts = [self._permutation(epoch)[place[epochs == epoch] % n] for epoch in spanned]
        return torch.cat(parts)

    def phases(self, step: int) -> Sequence[str]:
        """Return the one phase there is."""
        return ("main",)

    def loss(self, phase: str, step: int, shard: Shard) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Return the mean NLL of this process's part of the batch, nats per dimension."""
        batch = self.train.rows(self.batch_rows(step).to(self.train.mean.device))
        z_bar = batch.sample(generator(self.seed, "posterior", step))
        part = shard.slice(self.config.batch)
        loss = self.cinn.nll(z_bar[part], batch.condition[part]).mean()
        return loss, {"nll_train": loss.detach()}

    def learning_rate(self, phase: str, step: int) -> float:
        """Return the rate of a step: a linear rise, then a cosine to zero where the config says so."""
        config = self.config
        if not config.decay:
            return config.lr * min(1.0, (step + 1) / (config.warmup + 1))
        return cosine(config.lr, step, config.steps, config.warmup)

    def evaluate(self, step: int) -> dict[str, float]:
        """Return the held-out NLL and its floor, nats per dimension."""
        rows = nll_rows(self.cinn, self.held_out, self.seed)
        return {"nll": float(in_float64(rows).mean()), "nll_floor": posterior_entropy(self.held_out)}


def fit_config(config: CinnConfig, *, seed: int = 0) -> FitConfig:
    """Return the engine's settings for a flow of this config.

    The start is kept where no step improves on it. Where the regression already explains the codes, every step only adds
    noise; layers and controls are so compared at their best, by the same rule for all.
    """
    return FitConfig(
        steps=config.steps,
        seed=seed,
        evaluate_every=config.evaluate_every,
        checkpoint_every=config.evaluate_every,
        clip_norm=config.clip_norm,
        patience=config.patience,
        keep_start=True,
    )


def train_cinn(
    cinn: CINN,
    train: CodeTable,
    held_out: CodeTable,
    folder: Path,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    device: torch.device | str = "cpu",
    stage: str = "cINN",
) -> FitResult:
    """Train a flow in place, and keep the state with the lowest held-out NLL, its start included.

    Args:
        cinn: the flow; one without a start gets it from the training rows.
        train: training rows, on `device`.
        held_out: rows of other patients, on `device`.
        folder: of the checkpoints; a training that was interrupted goes on from there.
        seed: of order and noise.
        progress: receives the progress of the training.
        device: where it trains.
        stage: name of this training in what `progress` receives.

    Raises:
        DivergedError: the loss or a gradient is not finite, also after going back to a checkpoint.
    """
    cinn.to(device)
    task = CinnTask(cinn, train, held_out, seed=seed)
    config = fit_config(cinn.config, seed=seed)
    return fit(task, config, folder, progress=progress, device=device, stage=stage)


class _Adam(torch.optim.Adam):
    """Adam whose groups move at their own `part` of the rate, which the engine sets for all of them alike."""

    def step(self, closure: Any = None) -> Any:
        rates = [group["lr"] for group in self.param_groups]
        for group, rate in zip(self.param_groups, rates, strict=True):
            group["lr"] = rate * group["part"]
        result = super().step(closure)
        for group, rate in zip(self.param_groups, rates, strict=True):
            group["lr"] = rate
        return result


def _adam(cinn: CINN, config: CinnConfig) -> torch.optim.Optimizer:
    # Adam moves every parameter by about the rate, however small its gradient: at full rate the closed-form start is
    # lost to noise, and most of the training goes into finding it again
    solved = (
        [] if cinn.whitening is None else [*cinn.embedder.readout.parameters(), *cinn.whitening.parameters()]
    )
    known = {id(parameter) for parameter in solved}
    groups: list[dict[str, Any]] = [
        {"params": [p for p in cinn.parameters() if id(p) not in known], "part": 1.0}
    ]
    if solved:
        groups.append({"params": solved, "part": SOLVED_PART})
    return _Adam(groups, lr=config.lr, betas=config.betas, fused=True)
