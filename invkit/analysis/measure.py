"""Measuring one layer on the images under test: samples, references, figures, verdict."""

__all__ = ["layer_note", "measure_layer", "with_calibration"]

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from invkit.analysis.outcome import LayerResult
from invkit.analysis.study import Study
from invkit.calibration.record import CalibrationRecord
from invkit.certificates.baseline import baseline
from invkit.certificates.certify import Certified, certify, refine_proposals
from invkit.certificates.figures import certification
from invkit.errors import SplitError
from invkit.fiber.distance import activation_distance
from invkit.measures.comparison import compare, comparison_figures, swapped
from invkit.measures.references import Distances
from invkit.measures.structures.condition import condition_of
from invkit.measures.structures.summary import Structures
from invkit.measures.variation import concluded, measure_variation
from invkit.samplers.family import FoundLayer, draws_of
from invkit.sampling.base import SampleModel
from invkit.sampling.draw import Draws, draw
from invkit.sampling.layer import ScaledLayer, Target
from invkit.sampling.spread import root_mean_square, sample_spread
from invkit.split.check import SplitReport
from invkit.split.split import Split
from invkit.statistics.intervals import Interval, bootstrap
from invkit.verdict.measures import Measures
from invkit.verdict.rules import judge
from invkit.verdict.structures import structure_sentences


@dataclass(frozen=True)
class _Image:
    """What was found of one image.

    Args:
        target: the image as the layer sees it.
        draws: of the layer's sampler.
        distances: of samples, controls and references, by name.
        controls: draws of `input` and `const`; empty where there are no such models.
        certified: the refined draws; `None` where nothing was refined.
        free: refined training-free proposals beside them.
    """

    target: Target
    draws: Draws
    distances: dict[str, Distances]
    controls: dict[str, Draws]
    certified: Certified | None
    free: Certified | None


def measure_layer(study: Study, found: FoundLayer, check: SplitReport) -> LayerResult:
    """Sample one layer on every image and return what was measured."""
    layer, model, x = study.scaled(found), found.model, study.subject.x
    kept = study.kept(model) if study.domain == "low" else None
    unrefined = _why_not_refined(study, layer, trained=model is not None)
    images = [_measure_image(study, layer, found, kept, image, not unrefined) for image in range(len(x))]
    if not unrefined and any(one.certified is None for one in images):
        unrefined = "no gradient of this layer reaches the image"
    certified = [] if unrefined else [one.certified for one in images if one.certified is not None]
    free = [one.free for one in images if one.free is not None]
    figures, measures = _figures(study, layer, found, images, certified, free)
    if model is not None:
        figures["representation_rmse_hu"] = None if kept is None else (kept - x).square().mean().sqrt().item()
    if not found.split.is_control:
        figures["random_phi"], random = study.randomised.measure(
            layer,
            x,
            certified,
            study.denoiser,
            samples=study.sampling.samples,
            seed=study.seed,
            region=study.subject.region,
        )
        measures = dataclasses.replace(measures, random_weights=random)
    variation = None
    if not unrefined:
        scene = study.scene(alone=found.split.is_control)
        variation = measure_variation(layer, scene, certified, free, model=model, reconstruction=kept)
        figures["variation"] = variation
    conclusion, verdict = concluded(measures, judge(measures), variation, unrefined)
    structures = _structures(study, layer)
    if structures is not None:
        condition = condition_of(structures.layers[0])
        figures |= {**structures.figures(), "condition": None if condition is None else condition.figures()}
        if measures.control is None:
            said = structure_sentences(measures.layer, structures.found)
            verdict = dataclasses.replace(verdict, sentences=(*said, *verdict.sentences))
    result = LayerResult(
        layer=found.split.layer,
        note=layer_note(found.split),
        draws=tuple(one.draws for one in images),
        swap=None if model is None else _swapped(study, model, images),
        figures=figures,
        verdict=verdict,
        conclusion=conclusion,
        trained=found.origin,
        provenance={
            "phi": layer.split.describe(),
            "scale": layer.scale,
            "eta": layer.eta,
            "proposals": found.proposals,
        }
        if model is None
        else model.meta,
        sha256="" if model is None else model.sha256,
        split=dataclasses.asdict(check),
        certified=tuple(certified),
        unrefined=unrefined,
        kept=kept,
    )
    return result if model is None else with_calibration(result, model)


def _measure_image(
    study: Study, layer: ScaledLayer, found: FoundLayer, kept: Tensor | None, image: int, refined: bool
) -> _Image:
    """Sample one image, refine what is to be refined, and measure what stands beside it."""
    count, sampling = study.sampling.refined, study.sampling
    target = layer.at(study.subject.x[image][None], study.f_x[image][None])
    perturb = study.fresh_noise(image) if study.domain == "high" else None
    drawn = draw(
        draws_of(sampling.sampler, found.sampler, target),
        target,
        samples=sampling.samples,
        seed=study.seed,
        image=image,
        perturb=perturb,
    )
    proven = free = None
    if refined:
        draws = drawn.samples[:count].to(target.x)
        if kept is None:
            proven = refine_proposals(draws, target, study.scrutiny)
        else:
            one = kept[image][None]
            proven = certify(draws, target, one, seed=study.seed, image=image, scrutiny=study.scrutiny)
        if proven is not None and not found.baseline:
            free = baseline(target, count=count, seed=study.seed, image=image, judge=study.judge)
    if study.controls is None:
        distances = study.references.distances(drawn, target, image)
        if found.baseline:
            # What is sampled is this reference itself.
            del distances["training_free"]
        distances["samples"] = Distances(drawn.fiber_error, drawn.f_error)
        return _Image(target, drawn, distances, {}, proven, free)
    beside = compare(
        drawn,
        target,
        study.controls,
        study.references,
        seed=study.seed,
        image=image,
        samples=sampling.samples,
        perturb=perturb,
    )
    return _Image(
        target, drawn, beside.distances, {"input": beside.input, "const": beside.const}, proven, free
    )


def _structures(study: Study, layer: ScaledLayer) -> Structures | None:
    """Return what becomes of structures and of noise; `None` where the layer says nothing of the image or has no gradient."""
    if layer.eta == 0:
        return None
    try:
        return study.structures(layer)
    except SplitError:
        return None


def _why_not_refined(study: Study, layer: ScaledLayer, *, trained: bool) -> str:
    """Return the reason why nothing is refined, or nothing."""
    if study.sampling.refined == 0:
        return "no refinement was requested"
    if study.domain == "high":
        return "high-dose images are not meant to lie in the fiber of the low-dose image"
    if layer.eta == 0 and trained:
        return "this control gives the same z for all images"
    if layer.eta == 0:
        return "this layer gives the same z for all images, so every image lies in its fiber"
    return ""


def _swapped(study: Study, model: SampleModel, images: Sequence[_Image]) -> Tensor:
    """Return swaps with the next image, or with another one where there is only one image."""
    z = [one.target.z for one in images]
    partners = [*z[1:], z[0]] if len(z) > 1 else [model.split.phi(study.references.images[:1])]
    return swapped(model, _own(study, images), z, partners)


def _own(study: Study, images: Sequence[_Image]) -> Tensor:
    """Return the images under test in the domain that is sampled; the samples' mean where a high-dose one is unknown."""
    x = study.subject.x
    if study.domain == "low":
        return x
    if study.subject.y is not None:
        return study.subject.y.to(x)
    return torch.stack([one.draws.mean for one in images]).to(x)


def layer_note(split: Split) -> str:
    """Return what the plugin says of the layers asked for."""
    notes = {layer.key: layer.note for layer in split.denoiser.spec.layers}
    return "; ".join(notes[layer.text] for layer in split.layers if notes.get(layer.text))


def _figures(
    study: Study,
    layer: ScaledLayer,
    found: FoundLayer,
    images: Sequence[_Image],
    certified: Sequence[Certified],
    free: Sequence[Certified],
) -> tuple[dict[str, Any], Measures]:
    seed, region, eta = study.seed, study.subject.region, layer.eta

    def spread_of(draws: Callable[[_Image], Draws]) -> Interval:
        return sample_spread([draws(one).stack for one in images], seed=seed, region=region)

    fiber_error, in_other_units = comparison_figures(
        [one.distances for one in images], eta, study.references, seed=seed
    )
    true_y = _true_high_dose(study, layer, images)
    shown = fiber_error if true_y is None else {**fiber_error, "true_y": true_y}
    f_std = torch.stack([one.draws.f_std for one in images])
    f_std = f_std if region is None else region.pixels(f_std)
    f_error = root_mean_square([one.draws.f_error for one in images], seed=seed)
    spread, spread_f = spread_of(lambda one: one.draws), Interval(f_std.square().mean().sqrt().item())
    figures: dict[str, Any] = {
        "fiber_error": shown,
        "fiber_error_eta": _over(fiber_error["samples"], eta) if eta > 0 else None,
        "noise_distance": eta,
        "ladder": in_other_units,
        "f_error_hu": f_error,
        "spread_hu": spread,
        "spread_f_hu": spread_f,
    }
    measures = Measures(
        layer=f"layer {found.split.layer} of {study.denoiser.name}",
        spread=spread,
        fiber_error=fiber_error,
        spread_f=spread_f,
        noise_distance=eta,
        domain=study.domain,
        proposals=found.proposals if study.controls is None else "",
        bank=len(study.references.bank),
    )
    if study.controls is not None and found.model is not None:
        controls, measures = _beside_controls(study, found.model, measures, spread_of)
        figures |= controls
    proof = certification(certified, free, pixel_scale=layer.pixel_scale, seed=seed, region=region)
    if proof is not None:
        figures["certified"] = proof
    return figures, dataclasses.replace(measures, certification=proof)


def _beside_controls(
    study: Study,
    model: SampleModel,
    measures: Measures,
    spread_of: Callable[[Callable[[_Image], Draws]], Interval],
) -> tuple[dict[str, Any], Measures]:
    """Return the figures that a trained model and its controls have, and the measures with them."""
    assert study.controls is not None
    kinds: tuple[Literal["input", "const"], ...] = ("input", "const")
    control = next((kind for kind in kinds if kind == model.split.layer), None)
    spread_input, spread_const = (spread_of(_control(kind)) for kind in kinds)
    nll = {
        "layer": _nll(model, study.seed),
        "input": _nll(study.controls.input, study.seed),
        "const": _nll(study.controls.const, study.seed),
        "floor": Interval(model.meta["floor"]),
    }
    figures = {
        "spread_input_hu": spread_input,
        "spread_const_hu": spread_const,
        "vae_rmse_hu": study.vae_rmse,
        "vae_limit_hu": study.vae_limit,
        "nll": nll,
    }
    return figures, dataclasses.replace(
        measures,
        layer=f"`{control}`" if control else measures.layer,
        control=control,
        spread_input=spread_input,
        vae_rmse=study.vae_rmse,
        vae_limit=study.vae_limit,
        nll=nll,
    )


def _control(kind: str) -> Callable[[_Image], Draws]:
    return lambda one: one.controls[kind]


def _true_high_dose(study: Study, layer: ScaledLayer, images: Sequence[_Image]) -> Interval | None:
    """Return the fiber error of the true high-dose image with fresh noise, beside which the samples' stands."""
    if study.domain != "high" or study.subject.y is None:
        return None
    errors = []
    for image, (y, one) in enumerate(zip(study.subject.y.to(study.subject.x), images, strict=True)):
        noisy = study.fresh_noise(image)(y[None].expand(25, -1, -1, -1), range(25))
        errors.append(activation_distance(layer.split.phi(noisy), one.target.z).cpu() / layer.scale)
    return root_mean_square(errors, seed=study.seed)


def _over(interval: Interval, unit: float) -> Interval:
    return Interval(interval.value / unit, interval.low / unit, interval.high / unit)


def _nll(model: SampleModel, seed: int) -> Interval:
    """Return the held-out NLL in nats per dimension, with an interval over patients."""
    return bootstrap(model.nll_rows, groups=model.patients.tolist(), seed=seed)


def with_calibration(result: LayerResult, model: SampleModel) -> LayerResult:
    """Return a layer's result with the calibration that its file keeps, and what is to be said of it.

    Args:
        result: of the layer.
        model: what its samples were drawn from.
    """
    record = CalibrationRecord.read(getattr(model, "held_out", {}), model.meta)
    control = model.split.layer in ("input", "const")
    name = f"`{result.layer}`" if control else f"layer {result.layer} of {model.split.denoiser.name}"
    verdict = result.verdict
    if record is None:
        sentence = f"The calibration of the flow for {name} was not measured when it was trained."
    else:
        sentence = record.sentence(name)
    warned = record is not None and record.matters
    return dataclasses.replace(
        result,
        figures={**result.figures, "calibration": record},
        verdict=dataclasses.replace(
            verdict,
            sentences=verdict.sentences if warned else (*verdict.sentences, sentence),
            warnings=(*verdict.warnings, sentence) if warned else verdict.warnings,
        ),
        calibration=record,
    )
