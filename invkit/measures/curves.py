"""What layers keep, over the depth of a network: of the code, and of the image by the best regression."""

__all__ = ["layer_curves"]

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from invkit.measures.comparison import Controls
from invkit.measures.regressed import RegressionCurve, regression_curve
from invkit.measures.retained import RetainedCurve, retained_curve
from invkit.regressor.regress import tolerable
from invkit.sampling.base import SampleModel
from invkit.split.layers import module_names
from invkit.statistics.convergence import Convergence, convergence

ROWS = "regressed_rows"
INFORMATION = 0.002  # what the second half of a training may still gain of all that the code holds


def layer_curves(
    models: Sequence[SampleModel], controls: Controls, *, bypassed: Collection[str] = (), seed: int = 0
) -> tuple[RetainedCurve | None, RegressionCurve | None]:
    """Return retained information and RMSE of the regression of the layers, from the image to the output.

    A curve is `None` where there are no layers, or where they were not judged on the same held-out patches.

    Args:
        models: of the layers, without controls.
        controls: the models of `input` and `const`.
        bypassed: branches, round which something goes; those after them may know more.
        seed: of the resampling.
    """
    if not models:
        return None, None
    models = sorted(models, key=_depth)
    return _information(models, controls, bypassed, seed), _regression(models, controls, bypassed, seed)


def _information(
    models: Sequence[SampleModel], controls: Controls, bypassed: Collection[str], seed: int
) -> RetainedCurve | None:
    const = controls.const.nll_rows
    if any(len(model.nll_rows) != len(const) for model in models):
        return None
    floor = controls.const.floor_rows
    if floor is None:
        floor = torch.full_like(const, controls.const.meta["floor"])
    scale = float((const - floor).mean())
    return retained_curve(
        {model.split.layer: model.nll_rows for model in models},
        const,
        floor,
        controls.const.patients.tolist(),
        convergence={model.split.layer: _known(model, scale) for model in models},
        bypassed=bypassed,
        seed=seed,
    )


def _regression(
    models: Sequence[SampleModel], controls: Controls, bypassed: Collection[str], seed: int
) -> RegressionCurve | None:
    rows = {model.split.layer: _errors(model) for model in models}
    known = {layer: errors for layer, errors in rows.items() if errors is not None}
    const = _errors(controls.const)
    if len(known) != len(rows) or len({len(errors) for errors in known.values()}) != 1:
        return None
    first = next(iter(known.values()))
    return regression_curve(
        known,
        const if const is not None and len(const) == len(first) else None,
        models[0].patients[: len(first)].tolist(),
        convergence={model.split.layer: _regressed(model) for model in models},
        bypassed=bypassed,
        seed=seed,
    )


def _errors(model: SampleModel) -> Tensor | None:
    """Return squared errors of the regression on held-out patches, HU^2; none in files from older versions."""
    return getattr(model, "held_out", {}).get(ROWS)


def _known(model: SampleModel, scale: float) -> Convergence:
    """Return what the second halves of both trainings gained, of the flow and of g, as shares of `scale`, nats per dimension."""
    learning, stopped = model.meta.get("learning", {}), bool(model.meta.get("stopped_early"))
    flow = convergence(learning.get("nll"), tolerance=INFORMATION, scale=scale, stopped=stopped)
    code = convergence(learning.get("code_nll"), tolerance=INFORMATION, scale=scale)
    gain = None if flow.gain is None or code.gain is None else flow.gain + code.gain
    return Convergence(flow.steps, gain, INFORMATION)


def _regressed(model: SampleModel) -> Convergence:
    curve = model.meta.get("learning", {}).get("rmse_hu") or []
    return convergence(curve, tolerance=tolerable(min((float(rmse) for _, rmse in curve), default=0.0)))


def _depth(model: SampleModel) -> int:
    """Return where a layer stands among the network's modules, which are listed in the order of their use as a rule."""
    names = list(module_names(model.split.denoiser.network))
    return max((names.index(layer.module) for layer in model.split.layers), default=len(names))
