"""Fitting of regressors g: z -> x_hat: a descent in closed form, and a training of the network where that does not do."""

__all__ = [
    "Judge",
    "Pairs",
    "Regressed",
    "Regression",
    "RegressorTask",
    "squared_error",
    "tolerable",
    "train_regressor",
]

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from invkit.errors import DivergedError
from invkit.regressor.descent import descend
from invkit.regressor.regressor import Activation, Phi, Regressor, RegressorConfig
from invkit.training.engine import FitConfig, Shard, fit
from invkit.training.history import learning_curve
from invkit.training.optimiser import OnePhase, doubling_cosine
from invkit.training.progress import Progress, ProgressEvent

Pairs = Callable[[int, Shard], tuple[Activation, Tensor]]
Judge = Callable[[Regressor, int], dict[str, float]]  # of the estimate after so many stages
WHOLE = Shard(0, 1)
LOOKS = 2  # in each half of a training
LEAST_HU = 1e-3
# What doubling the stages or steps may still take off the RMSE where a regression has converged.
ENOUGH, ENOUGH_HU = 0.05, 0.5
FAR = 0.5  # of the linear part's RMSE, where a descent got far


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
        self.bf16 = self.config.bf16
        super().__init__("regressor", regressor, self.config, betas=self.config.betas)

    def learning_rate(self, phase: str, step: int) -> float:
        """Return the rate: a warm-up and a cosine to 0 over each half of the steps, and over each doubling."""
        return doubling_cosine(self.config, step)

    def enough(self, looks: Sequence[tuple[int, float]]) -> bool:
        """Tell whether the doubling of steps that ends here gained too little to go on; False between the ends of doublings."""
        done, uneven = divmod(looks[-1][0], self.config.steps)
        return not (uneven or done < 1 or done & (done - 1)) and _converged(looks)

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
        return found if self.judge is None else {**found, **self.judge(self.regressor, 0)}

    def _rmse(self, pairs: Iterable[tuple[Activation, Tensor]]) -> float:
        return float(torch.stack([self._error(z, x) for z, x in pairs]).mean().sqrt())

    def _error(self, z: Activation, x: Tensor) -> Tensor:
        return squared_error(self.regressor(z, (x.shape[-2], x.shape[-1])), x).mean()


def _converged(looks: Sequence[tuple[int, float]]) -> bool:
    """Tell whether the second half of the stages or steps so far took no more off the RMSE than is tolerable."""
    end = looks[-1][0]
    best = min(value for _, value in looks)
    before = min((value for look, value in looks if 2 * look <= end), default=math.inf)
    return before - best <= tolerable(best)


def tolerable(rmse: float) -> float:
    """Return what doubling stages or steps of a converged regression may still take off its RMSE, HU: 5 %, or half an HU.

    Half an HU is less than the default tolerance of a certificate allows in the image itself (0.001 s_Phi of `input`).
    """
    return max(ENOUGH * rmse, ENOUGH_HU)


def squared_error(estimate: Tensor, x: Tensor) -> Tensor:
    """Return each image's mean squared error in HU^2, `(B,)`, of g(z) and x, `(B, 1, H, W)`, HU."""
    error: Tensor = (estimate - x).square().flatten(1).mean(1)
    return error


@dataclass(frozen=True)
class Regressed:
    """A regressor that was fitted.

    Args:
        regressor: g, in eval mode.
        metrics: its held-out figures, `rmse_hu` among them.
        learning: held-out figures after so many stages of the descent, or steps of the network's training, by name.
    """

    regressor: Regressor
    metrics: Mapping[str, float]
    learning: Mapping[str, Sequence[tuple[int, float]]]


@dataclass(frozen=True)
class Regression:
    """What a regressor is fitted to.

    Args:
        pairs: `pairs(step, shard)` returns z and x of that part of a step's batch; a pure function.
        held_out: the same for other patients.
        phi: from images `(B, 1, H, W)`, HU, to activations.
        judge: returns further held-out figures of g.
    """

    pairs: Pairs
    held_out: Pairs
    phi: Phi
    judge: Judge | None = None


def train_regressor(
    data: Regression,
    config: RegressorConfig,
    folder: Path,
    *,
    seed: int = 0,
    identity: str | None = None,
    progress: Progress | None = None,
    device: torch.device | str = "cpu",
    stage: str = "regressor",
) -> Regressed:
    """Build a regressor for what the pairs give and fit it: by a descent through Phi, and where that does not get far by training.

    A descent gets far where it takes more than half of its error off the linear part. Elsewhere, as where much of x is lost or the
    image is another than the one that z is of, the network is trained on the linear part, and the better of the two is kept; of the
    training the best state of all looks, the linear part alone included. Where z is constant there is nothing to train.

    Args:
        data: what it is fitted to.
        config: sizes and steps; the pairs should give batches of `config.batch` patches of side `config.patch`.
        folder: run folder of the engine; an interrupted training goes on.
        seed: of the initialisation.
        identity: what is trained on what; a folder that holds another training is refused.
        progress: receives the progress of the training.
        device: where it trains.
        stage: what progress calls it.

    Raises:
        DivergedError: the training diverged, or z is not finite.
    """
    descended, looks = _descended(data, config, seed=seed, progress=progress, device=device, stage=stage)
    rmse = descended.metrics["rmse_hu"]
    if rmse <= max(FAR * looks[0], ENOUGH_HU) or _constant(data.pairs):
        return descended
    z, x = data.pairs(0, WHOLE)
    regressor = Regressor(z, (x.shape[-2], x.shape[-1]), config, seed=seed).to(device)
    task = RegressorTask(regressor, data.pairs, data.held_out, identity=identity, judge=data.judge)
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
    if len(looks) > 1 and rmse <= result.metrics["rmse_hu"]:
        return descended
    regressor.requires_grad_(False)
    names = result.metrics
    return Regressed(regressor, names, {name: learning_curve(result.history, name) for name in names})


def _descended(
    data: Regression,
    config: RegressorConfig,
    *,
    seed: int,
    progress: Progress | None,
    device: torch.device | str,
    stage: str,
) -> tuple[Regressed, Sequence[float]]:
    """Return the regressor of a descent, without network, and its held-out RMSE after so many stages."""
    begun = time.monotonic()
    pairs, judge = data.pairs, data.judge
    z, x = pairs(0, WHOLE)
    regressor = Regressor(z, (x.shape[-2], x.shape[-1]), config, seed=seed).to(device)
    regressor.net = None
    regressor.calibrate([pairs(step, WHOLE) for step in range(config.calibration)])
    curves: dict[str, list[tuple[int, float]]] = {"rmse_hu": []}
    # Twice as many as make conditions, so that the end says what doubling them would gain.
    judged = (0, config.condition_stages, 2 * config.condition_stages)

    def record(count: int, rmse: float) -> None:
        if not math.isfinite(rmse):
            return
        curves["rmse_hu"].append((count, rmse))
        if judge is not None and count in judged:
            for name, value in judge(regressor, count).items():
                curves.setdefault(name, []).append((count, value))
        if progress is not None:
            seconds = time.monotonic() - begun
            progress(ProgressEvent(stage, count, config.stages, seconds, metrics={"rmse_hu": rmse}))

    def batches(source: Pairs, count: int) -> Iterator[tuple[Activation, Tensor]]:
        return (source(step, WHOLE) for step in range(count))

    looks = descend(
        regressor,
        batches(pairs, config.stage_batches),
        batches(data.held_out, config.stage_batches),
        data.phi,
        lambda looks: len(looks) % 2 == 1 and len(looks) > 1 and _converged([*enumerate(looks)]),
        on_stage=record,
    )
    if not curves["rmse_hu"]:
        raise DivergedError(
            f"{stage}: activations of the layer are not finite, so no image can be estimated from them"
        )
    regressor.eval().requires_grad_(False)
    metrics = {name: min(curve, key=lambda point: point[1])[1] for name, curve in curves.items()}
    return Regressed(regressor, metrics, curves), looks


def _constant(pairs: Pairs) -> bool:
    """Tell whether z is the same for all images."""
    z, _ = pairs(0, WHOLE)
    return all(bool((part == part[:1]).all()) for part in (z if isinstance(z, tuple) else (z,)))
