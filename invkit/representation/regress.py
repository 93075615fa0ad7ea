"""Training of regressors g: z -> x_hat with the common engine."""

__all__ = ["Pairs", "RegressorTask", "squared_error", "train_regressor"]

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from invkit.representation.regressor import Activation, Regressor, RegressorConfig
from invkit.training.engine import FitConfig, Shard, fit
from invkit.training.optimiser import OnePhase
from invkit.training.progress import Progress

Pairs = Callable[[int, Shard], tuple[Activation, Tensor]]
WHOLE = Shard(0, 1)
LOOKS = 8


class RegressorTask(OnePhase):
    """Fits g by the mean squared error of x_hat.

    Args:
        regressor: what is trained; standardised and its linear part fitted here, on the first batches.
        pairs: returns the activations and images of a step, each on the regressor's device.
        held_out: the same for other patients, step 0 and up.
        identity: what is trained on what, for the run folder.
    """

    def __init__(self, regressor: Regressor, pairs: Pairs, held_out: Pairs, *, identity: str | None = None):
        self.regressor = regressor
        self.pairs = pairs
        self.held_out = held_out
        self.identity = identity
        self.config = regressor.config
        regressor.calibrate([pairs(step, WHOLE) for step in range(self.config.calibration)])
        super().__init__("regressor", regressor, self.config)

    def loss(self, phase: str, step: int, shard: Shard) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Return the mean squared error in scaled units."""
        z, x = self.pairs(step, shard)
        error = self._error(z, x) / self.config.hu_scale**2
        return error, {"rmse_hu": error.detach().sqrt() * self.config.hu_scale}

    @torch.no_grad()
    def evaluate(self, step: int) -> dict[str, float]:
        """Return the held-out RMSE in HU: what z keeps of x, as far as g finds it."""
        errors = [self._error(*self.held_out(number, WHOLE)) for number in range(self.config.held_out)]
        return {"rmse_hu": float(torch.stack(errors).mean().sqrt())}

    def _error(self, z: Activation, x: Tensor) -> Tensor:
        return squared_error(self.regressor(z, (x.shape[-2], x.shape[-1])), x).mean()


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
) -> tuple[Regressor, dict[str, float]]:
    """Build a regressor for what `pairs` gives, train it, and return it with its held-out `rmse_hu`.

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

    Raises:
        DivergedError: the training diverged.
    """
    z, x = pairs(0, WHOLE)
    regressor = Regressor(z, (x.shape[-2], x.shape[-1]), config, seed=seed).to(device)
    task = RegressorTask(regressor, pairs, held_out, identity=identity)
    result = fit(
        task,
        FitConfig(
            steps=config.steps,
            seed=seed,
            clip_norm=1.0,
            checkpoint_every=config.steps,
            evaluate_every=-(-config.steps // LOOKS),
        ),
        folder,
        progress=progress,
        device=device,
        stage=stage,
    )
    regressor.requires_grad_(False)
    return regressor, result.metrics
