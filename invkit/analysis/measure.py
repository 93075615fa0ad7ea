"""Measuring one layer on the images under test: samples, references, figures, verdict."""

__all__ = ["layer_note", "measure_layer", "with_calibration"]

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from invkit.analysis.answer import Answer, eta_of, find_answer, plausibility, random_weights
from invkit.analysis.outcome import LayerResult
from invkit.analysis.study import Study
from invkit.calibration.record import CalibrationRecord
from invkit.certificates.certify import Certified, refine_proposals
from invkit.certificates.figures import at_output, certification
from invkit.data.dose.image import estimate_noise
from invkit.data.dose.texture import noise_texture
from invkit.fiber.distance import activation_distance
from invkit.measures.comparison import compare, comparison_figures, swapped
from invkit.measures.completeness import lost_power
from invkit.measures.references import Distances
from invkit.measures.window import choose_window
from invkit.samplers.family import FoundLayer, draws_of
from invkit.sampling.base import ImageDraws, LayerModel, SampleModel
from invkit.sampling.completion import complete
from invkit.sampling.draw import Draws, draw
from invkit.sampling.layer import ScaledLayer, Target
from invkit.sampling.spread import root_mean_square, sample_spread
from invkit.split.check import SplitReport
from invkit.split.split import Split
from invkit.statistics.intervals import Interval, bootstrap
from invkit.training.seeds import generator
from invkit.verdict.branch import branch_sentence
from invkit.verdict.conclusion import conclude
from invkit.verdict.marked import marked_sentence
from invkit.verdict.measures import Measures
from invkit.verdict.rules import judge
from invkit.verdict.structures import structure_sentences

WITNESSES = 8  # of a sampler's images that are refined, for each image under test
SCANS = 64  # differences of two noise realisations
LEAST_SIDE = 20  # pixels, below which an image has no bands


@dataclass(frozen=True)
class _Image:
    """What was found of one image.

    Args:
        target: the image as the layer sees it.
        draws: of the layer's sampler.
        distances: of samples, controls and references, by name; empty for draws of the posterior.
        controls: draws of `input` and `const`; empty where there are no such models.
    """

    target: Target
    draws: Draws
    distances: dict[str, Distances]
    controls: dict[str, Draws]


def measure_layer(study: Study, found: FoundLayer, check: SplitReport) -> LayerResult:
    """Measure one layer on every image and return what was found."""
    layer, model, x = study.scaled(found), found.model, study.subject.x
    answer = find_answer(study, layer, trained=model is not None, branch=check.bypass)
    if answer.layers:
        layer = dataclasses.replace(layer, eta=eta_of(answer.layers, layer.scale))
    kept = study.kept(model) if study.domain == "low" else None
    images = [_measure_image(study, layer, found, answer, image) for image in range(len(x))]
    witnesses, proposals = _witnesses(study, found, kept, answer, images, branch=check.bypass)
    figures, measures = _figures(study, layer, found, images, answer)
    measures = dataclasses.replace(measures, branch=check.bypass)
    proof = certification(witnesses, seed=study.seed, region=study.subject.region, proposals=proposals)
    if proof is not None:
        figures["witnesses"] = proof
        measures = dataclasses.replace(measures, witnesses=proof)
    if model is not None:
        figures["representation_rmse_hu"] = None if kept is None else (kept - x).square().mean().sqrt().item()
        figures["representation_lost"] = None if kept is None else _lost(study, kept)
    if not found.split.is_control:
        random, hidden = random_weights(study, layer, answer)
        figures["random_phi"] = random
        measures = dataclasses.replace(measures, random_weights=hidden)
    verdict = judge(measures)
    conclusion = conclude(measures, answer.found, answer.undrawn)
    asked: list[str] = []
    if answer.structures is not None:
        figures |= answer.structures.figures()
        if measures.control is None:
            said = structure_sentences(measures.layer, answer.structures.found)
            if answer.structures.marked is not None:
                asked.append(marked_sentence(measures.layer, answer.structures.marked.found))
                said += asked
            verdict = dataclasses.replace(verdict, sentences=(*said, *verdict.sentences))
    if answer.kept is not None:
        asked.append(answer.kept.sentence)
        verdict = dataclasses.replace(verdict, sentences=(answer.kept.sentence, *verdict.sentences))
    if check.bypass:
        passed = at_output(answer.certified, check.leak, seed=study.seed)
        figures["branch"] = passed.figures()
        said_of_it = branch_sentence(measures.layer, passed)
        verdict = dataclasses.replace(verdict, sentences=(said_of_it, *verdict.sentences))
        asked.append(said_of_it)
    if conclusion is not None:
        conclusion = dataclasses.replace(conclusion, asked=tuple(asked))
        verdict = dataclasses.replace(verdict, sentences=(conclusion.text, *verdict.sentences))
    figures["plausibility"], unlike = plausibility(study)
    verdict = dataclasses.replace(verdict, warnings=(*unlike, *verdict.warnings))
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
        certified=tuple(answer.certified),
        witnesses=tuple(witnesses),
        unrefined=answer.undrawn,
        kept=kept,
        changes=() if answer.structures is None else answer.structures.images,
    )
    return result if model is None else with_calibration(result, model)


def _measure_image(study: Study, layer: ScaledLayer, found: FoundLayer, answer: Answer, image: int) -> _Image:
    """Sample one image, and measure what stands beside its samples."""
    sampling = study.sampling
    target = layer.at(study.subject.x[image][None], study.f_x[image][None])
    perturb = study.fresh_noise(image) if study.domain == "high" else None
    if found.posterior:
        ready = _drawn_before(study, answer, target, image)
        count = len(answer.certified[image].images) if answer.certified else sampling.samples
        drawn = draw(ready, target, samples=count, seed=study.seed, image=image)
        return _Image(target, drawn, {}, {})
    drawn = draw(
        draws_of(sampling.sampler, found.sampler, target),
        target,
        samples=sampling.samples,
        seed=study.seed,
        image=image,
        perturb=perturb,
    )
    if study.controls is None:
        distances = study.references.distances(drawn, target, image)
        distances["samples"] = Distances(drawn.fiber_error, drawn.f_error)
        return _Image(target, drawn, distances, {})
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
    return _Image(target, drawn, beside.distances, {"input": beside.input, "const": beside.const})


def _drawn_before(study: Study, answer: Answer, target: Target, image: int) -> ImageDraws:
    """Return draws of the posterior that were made already; where none were, x with other noise of its dose, which is the prior."""
    noise = study.noises[image]

    def draws(seed: int, image: int, indices: Sequence[int]) -> Tensor:
        if answer.certified:
            return answer.certified[image].images[indices[0] : indices[-1] + 1].to(target.x)
        return target.x + torch.cat([noise.draws(1, generator(seed, "prior", image, k)) for k in indices])

    return draws


def _witnesses(
    study: Study,
    found: FoundLayer,
    kept: Tensor | None,
    answer: Answer,
    images: Sequence[_Image],
    *,
    branch: bool,
) -> tuple[list[Certified], list[Tensor]]:
    """Refine a few of a sampler's own images, and return them with what each was refined from."""
    count = min(study.sampling.refined, WITNESSES)
    if found.posterior or study.domain == "high" or not answer.layers or count == 0:
        return [], []
    refined, proposals = [], []
    for image, (one, layer) in enumerate(zip(images, answer.layers, strict=True)):
        x = one.target.x
        begun = one.draws.samples[:count].to(x)
        if kept is not None:
            begun = complete(
                begun, x - kept[image][None], seed=study.seed, image=image, indices=range(len(begun))
            )
        proven = refine_proposals(begun, layer, x, study.denoiser, branch=branch)
        if proven is None:
            return [], []
        refined.append(proven)
        proposals.append(begun.cpu())
    return refined, proposals


def _lost(study: Study, kept: Tensor) -> float | None:
    """Return the largest share of the power beyond noise that the representation loses of coarse structures."""
    shares = []
    for image, (x, rest) in enumerate(zip(study.subject.x.split(1), kept.split(1), strict=True)):
        window = choose_window(x, study.subject.region)
        part = window.crop(x)
        if min(part.shape[-2:]) < LEAST_SIDE:
            return None
        noise = noise_texture(SCANS, *window.size, generator=generator(study.seed, "scans", image)).to(x)
        level = 2**0.5 * estimate_noise(x[0, 0])
        shares.append(lost_power(part, window.crop(rest).to(part), level * noise))
    return max(shares)


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
    return "; ".join(notes[name] for name in split.layer.split("+") if notes.get(name))


def _figures(
    study: Study, layer: ScaledLayer, found: FoundLayer, images: Sequence[_Image], answer: Answer
) -> tuple[dict[str, Any], Measures]:
    seed, region, eta = study.seed, study.subject.region, layer.eta

    def spread_of(draws: Callable[[_Image], Draws]) -> Interval:
        return sample_spread([draws(one).stack for one in images], seed=seed, region=region)

    figures: dict[str, Any] = {"noise_distance": eta}
    measures = Measures(
        layer=f"layer {found.split.layer} of {study.denoiser.name}",
        spread=spread_of(lambda one: one.draws),
        noise_distance=eta,
        domain=study.domain,
        proposals=found.proposals if study.controls is None else "",
        posterior=found.posterior,
        bank=len(study.references.bank),
    )
    if not found.posterior:
        own, measures = _of_samples(study, layer, images, measures)
        figures |= own
    if study.controls is not None and found.model is not None:
        controls, measures = _beside_controls(study, found.model, measures, spread_of)
        figures |= controls
    proof = certification(answer.certified, seed=study.seed, region=study.subject.region)
    if proof is not None:
        figures["certified"] = proof
    return figures, dataclasses.replace(measures, certification=proof)


def _of_samples(
    study: Study, layer: ScaledLayer, images: Sequence[_Image], measures: Measures
) -> tuple[dict[str, Any], Measures]:
    """Return the figures of a sampler's own images, and the measures with them."""
    seed, region, eta = study.seed, study.subject.region, layer.eta
    fiber_error, in_other_units = comparison_figures(
        [one.distances for one in images], eta, study.references, seed=seed
    )
    true_y = _true_high_dose(study, layer, images)
    f_std = torch.stack([one.draws.f_std for one in images])
    f_std = f_std if region is None else region.pixels(f_std)
    spread_f = Interval(f_std.square().mean().sqrt().item())
    figures = {
        "fiber_error": fiber_error if true_y is None else {**fiber_error, "true_y": true_y},
        "fiber_error_eta": _over(fiber_error["samples"], eta) if eta > 0 else None,
        "ladder": in_other_units,
        "f_error_hu": root_mean_square([one.draws.f_error for one in images], seed=seed),
        "spread_hu": measures.spread,
        "spread_f_hu": spread_f,
    }
    return figures, dataclasses.replace(measures, fiber_error=fiber_error, spread_f=spread_f)


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
    limits = study.limits if isinstance(model, LayerModel) else None
    if limits is not None:
        figures |= {
            "vae_posterior_hu": limits.posterior,
            "code_nats": limits.held,
            "noise_nats": limits.needed,
        }
    return figures, dataclasses.replace(
        measures,
        layer=f"`{control}`" if control else measures.layer,
        control=control,
        spread_input=spread_input,
        vae_rmse=study.vae_rmse,
        vae_limit=study.vae_limit,
        vae_posterior=None if limits is None else limits.posterior,
        rate=None if limits is None else (limits.held, limits.needed),
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
            samples=verdict.samples if warned else (*verdict.samples, sentence),
            warnings=(*verdict.warnings, sentence) if warned else verdict.warnings,
        ),
        calibration=record,
    )
