"""Training of regressors g: z -> x_hat with the common engine."""

__all__ = ["Judge", "Pairs", "RegressorTask", "squared_error", "tolerable", "train_regressor"]

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from invkit.representation.regressor import Activation, Regressor, RegressorConfig
from invkit.training.engine import FitConfig, Shard, fit
from invkit.training.optimiser import OnePhase, doubling_cosine
from invkit.training.progress import Progress

Pairs = Callable[[int, Shard], tuple[Activation, Tensor]]
Judge = Callable[[Regressor], dict[str, float]]
WHOLE = Shard(0, 1)
LOOKS = 2  # in each half of a training
LEAST_HU = 1e-3
# What doubling the steps may still take off the RMSE where a training has converged.
ENOUGH, ENOUGH_HU = 0.05, 0.1


class RegressorTask(OnePhase):
    """Fits g by the mean squared error of x_hat; the monitor is its root over held-out patches.

    Args:
        regressor: what is trained; standardised and its linear part fitted here, on the first batches.
        pairs: returns the activations and images of a step, each on the regressor's device.
        held_out: the same for other patients, step 0 and up.
        identity: what is trained on what, for the run folder.
        judge: returns further held-out figures of g.
    """

    monitor = "rmse_hu"

    def __init__(
        self,
        regressor: Regressor,
        pairs: Pairs,
        held_out: Pairs,
        *,
        identity: str | None = None,
        judge: Judge | None = None,
    ):
        self.regressor = regressor
        self.pairs = pairs
        self.held_out = held_out
        self.identity = identity
        self.judge = judge
        self.config = regressor.config
        examples = [pairs(step, WHOLE) for step in range(self.config.calibration)]
        regressor.calibrate(examples)
        with torch.no_grad():
            self.unit = max(self._rmse(examples), LEAST_HU)
        super().__init__("regressor", regressor, self.config, betas=self.config.betas)

    def learning_rate(self, phase: str, step: int) -> float:
        """Return the rate: a warm-up and a cosine to 0 over each half of the steps, and over each doubling."""
        return doubling_cosine(self.config, step)

    def enough(self, looks: Sequence[tuple[int, float]]) -> bool:
        """Tell whether the doubling of steps that ends here gained too little to go on; False between the ends of doublings."""
        step = looks[-1][0]
        done, uneven = divmod(step, self.config.steps)
        if uneven or done < 1 or done & (done - 1):
            return False
        best = min(value for _, value in looks)
        before = min((value for look, value in looks if 2 * look <= step), default=math.inf)
        return before - best <= tolerable(best)

    def loss(self, phase: str, step: int, shard: Shard) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Return the mean squared error, in units of the linear part's RMSE.

        A batch that the processes cannot share evenly is so small that each takes it whole.
        """
        z, x = self.pairs(step, WHOLE if self.config.batch % shard.world else shard)
        error = self._error(z, x)
        return error / (self.unit * self.config.hu_scale), {"rmse_hu": error.detach().sqrt()}

    @torch.no_grad()
    def evaluate(self, step: int) -> dict[str, float]:
        """Return the held-out RMSE in HU: what z keeps of x, as far as g finds it."""
        pairs = (self.held_out(number, WHOLE) for number in range(self.config.held_out))
        found = {"rmse_hu": self._rmse(pairs)}
        return found if self.judge is None else {**found, **self.judge(self.regressor)}

    def _rmse(self, pairs: Iterable[tuple[Activation, Tensor]]) -> float:
        return float(torch.stack([self._error(z, x) for z, x in pairs]).mean().sqrt())

    def _error(self, z: Activation, x: Tensor) -> Tensor:
        return squared_error(self.regressor(z, (x.shape[-2], x.shape[-1])), x).mean()


def tolerable(rmse: float) -> float:
    """Return what doubling the steps of a converged regression may still take off its RMSE, HU: 5 %, or 0.1 HU."""
    return max(ENOUGH * rmse, ENOUGH_HU)


def squared_error(estimate: Tensor, x: Tensor) -> Tensor:
    """Return each image's mean squared error in HU^2, `(B,)`, of g(z) and x, `(B, 1, H, W)`, HU."""
    error: Tensor = (estimate - x).square().flatten(1).mean(1)
    return error


def train_regressor(
    pairs: Pairs,
    held_out: Pairs,
    config: RegressorConfig,
    folder: Path,
    *,
    seed: int = 0,
    identity: str | None = None,
    progress: Progress | None = None,
    device: torch.device | str = "cpu",
    stage: str = "regressor",
    judge: Judge | None = None,
) -> tuple[Regressor, dict[str, float]]:
    """Build a regressor for what `pairs` gives, train it, and return it with its held-out figures, `rmse_hu` among them.

    The best state of all looks is kept, the solved linear part alone included.

    Args:
        pairs: `pairs(step, shard)` returns z and x of that part of a step's batch; a pure function.
        held_out: the same for other patients.
        config: sizes and steps; `pairs` should give batches of `config.batch` patches of side `config.patch`.
        folder: run folder of the engine; an interrupted training goes on.
        seed: of the initialisation.
        identity: what is trained on what; a folder that holds another training is refused.
        progress: is told how far the training is.
        device: where it trains.
        stage: what progress calls it.
        judge: returns further held-out figures of g.

    Raises:
        DivergedError: the training diverged.
    """
    z, x = pairs(0, WHOLE)
    regressor = Regressor(z, (x.shape[-2], x.shape[-1]), config, seed=seed).to(device)
    task = RegressorTask(regressor, pairs, held_out, identity=identity, judge=judge)
    result = fit(
        task,
        FitConfig(
            steps=config.steps * 2**config.doublings,
            seed=seed,
            clip_norm=config.clip_norm,
            checkpoint_every=config.steps,
            evaluate_every=max(1, config.steps // 2 // LOOKS),
            keep_start=True,
        ),
        folder,
        progress=progress,
        device=device,
        stage=stage,
    )
    regressor.requires_grad_(False)
    return regressor, result.metrics
