"""What layers come to together, once each is measured: curves over depth, warnings, provenance."""

__all__ = ["merge_layers"]

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from invkit._version import __version__
from invkit.analysis.outcome import LayerResult
from invkit.analysis.runs import AnalysisResult
from invkit.analysis.study import Study
from invkit.denoisers.loaded import LoadedDenoiser
from invkit.denoisers.units import units_test
from invkit.measures.curves import layer_curves
from invkit.measures.regressed import RegressionCurve
from invkit.measures.retained import RetainedCurve
from invkit.samplers.family import FoundLayer
from invkit.split.check import SplitReport
from invkit.statistics.intervals import number
from invkit.vae.trained import TrainedVae


def merge_layers(
    study: Study,
    layers: Sequence[tuple[FoundLayer, SplitReport]],
    measured: Sequence[LayerResult],
    memory: Mapping[str, int],
) -> AnalysisResult:
    """Return what is said of all layers of one image.

    Args:
        study: what they were measured with.
        layers: what draws for them and what the split's check found, in the order of the report.
        measured: what was measured of each, in the same order.
        memory: what the analysis takes, bytes, for its provenance.
    """
    sampling, subject = study.sampling, study.subject
    retained, regression = _curves(study, layers)
    output = None if study.output is None else study.output.figures()
    measured = [_with_shared(layer, retained, regression, output) for layer in measured]
    several = [curve for curve in (retained, regression) if curve is not None and len(measured) > 1]
    return AnalysisResult(
        model=study.denoiser.name,
        subject=subject,
        domain=study.domain,
        sampler=sampling.sampler,
        layers=tuple(measured),
        f_x=study.f_x,
        vae=study.reconstruction,
        warnings=(*_warnings(study), *(reason for curve in several for reason in curve.reasons)),
        retained=retained,
        regression=regression,
        provenance=_provenance(study, memory),
    )


def _curves(
    study: Study, layers: Sequence[tuple[FoundLayer, SplitReport]]
) -> tuple[RetainedCurve | None, RegressionCurve | None]:
    """Return what layers keep over depth, where their models tell."""
    models = [found.model for found, _ in layers if found.model is not None and not found.split.is_control]
    if study.controls is None:
        return None, None
    bypassed = [found.split.layer for found, check in layers if check.bypass]
    retained, regression = layer_curves(models, study.controls, bypassed=bypassed, seed=study.seed)
    return retained, regression


def _with_shared(
    layer: LayerResult,
    retained: RetainedCurve | None,
    regression: RegressionCurve | None,
    output: Mapping[str, Any] | None,
) -> LayerResult:
    """Return a layer with its part of the curves beside its figures, and with those of the output, which all layers share."""
    figures = {**layer.figures, "output": output}
    if retained is not None and layer.layer in retained.layers:
        figures["retained_information"] = retained.retained[retained.layers.index(layer.layer)]
    if regression is not None and layer.layer in regression.layers:
        figures["regression_rmse_hu"] = regression.rmse[regression.layers.index(layer.layer)]
    return replace(layer, figures=figures)


def _warnings(study: Study) -> list[str]:
    denoiser, warnings = study.denoiser, []
    if denoiser.weights_tag == "built" and denoiser.spec.recipe is not None:
        warnings.append(
            f"{denoiser.name} comes without trained weights, so what is analysed is the network as it is built. "
            f"`invkit train denoiser {denoiser.name}` trains it."
        )
    warnings += _how_called(denoiser, study.subject.x.shape[-2:])
    units = units_test(denoiser)
    if units is not None and units.warning:
        warnings.append(units.warning)
    if denoiser.repeatability > 0:
        warnings.append(
            f"Two calls of {denoiser.name} on one image differ by up to {number(denoiser.repeatability)} HU, by rounding"
        )
    return warnings


def _how_called(denoiser: LoadedDenoiser, size: Sequence[int]) -> list[str]:
    """Return what is done to an image before and behind the network, where that is not what a reader expects."""
    name, multiple, slices = denoiser.name, denoiser.size_multiple, denoiser.spec.call.slices
    said = []
    if denoiser.spec.channels > 1:
        said.append(
            f"{name} takes colour images: it is given the image {denoiser.spec.channels} times, and f is the mean of its channels."
        )
    if slices > 1:
        said.append(
            f"{name} takes {slices} neighbouring slices: in place of the others it is given the image itself."
        )
    if any(side % multiple for side in size):
        said.append(
            f"{name} takes images whose sides are multiples of {multiple} pixels: the image is padded to that by reflection, and f "
            "is cropped."
        )
    return said


def _provenance(study: Study, memory: Mapping[str, int]) -> dict[str, Any]:
    sampling, config, scans = study.sampling, study.workshop.config, study.subject.noise_scans
    trained: dict[str, TrainedVae] = {}
    if study.low is not None:
        trained["vae"] = study.low
    if study.controls is not None:
        trained["target_vae"] = study.workshop.vae(study.domain)
    return {
        "invkit": __version__,
        "torch": str(torch.__version__),
        "denoiser": {
            "name": study.denoiser.name,
            "description": study.denoiser.spec.description,
            "weights": study.denoiser.weights_tag,
            "trained_on": _trained_on(study.denoiser),
            "sha256": study.denoiser.sha256,
        },
        **{
            name: {"sha256": vae.sha256, "trained_on": vae.meta["trained_on"]}
            for name, vae in trained.items()
        },
        "image_sha256": study.subject.sha256,
        **({} if scans is None else {"noise_scans": {"name": scans.name, "sha256": scans.fingerprint}}),
        "data": study.workshop.slices.description,
        "config": config.model_dump(mode="json")
        if study.controls is not None
        else {"pairs": config.pairs, "dose": config.dose},
        "sampler": sampling.sampler,
        "samples": sampling.samples,
        "refine": sampling.refine,
        "structures": sampling.structures,
        "seed": study.seed,
        "domain": study.domain,
        "threads": torch.get_num_threads(),
        "memory": dict(memory),
    }


def _trained_on(denoiser: LoadedDenoiser) -> str:
    """Return what a denoiser's weights were trained on, as its plugin says."""
    for weights in denoiser.spec.weights:
        if weights.tag == denoiser.weights_tag:
            return weights.trained_on
    return "data that its plugin does not name"
