"""Measuring one layer on the images under test: samples, ladder, figures, verdict."""

__all__ = ["layer_note", "measure_layer"]

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from invkit.analysis.bench import Bench
from invkit.analysis.outcome import LayerResult
from invkit.certificates.baseline import baseline
from invkit.certificates.certify import Certified, Scrutiny, certify, epsilon_of
from invkit.certificates.figures import certification_figures
from invkit.fiber.distance import Activation, activation_distance
from invkit.fiber.tangent import Tangent
from invkit.measures.ladder import Ladder, ladder, ladder_figures, swapped
from invkit.measures.random_weights import TrainedLayer
from invkit.measures.variation import concluded, measure_variation
from invkit.samplers.parts import FoundLayer
from invkit.sampling.base import SampleModel
from invkit.sampling.draw import Draws, Reference, draw
from invkit.sampling.spread import root_mean_square, sample_spread
from invkit.split.check import SplitReport
from invkit.split.split import Split
from invkit.statistics.intervals import Interval, bootstrap
from invkit.training.processes.sharing import share_out
from invkit.verdict.measures import Measures
from invkit.verdict.rules import judge


def measure_layer(bench: Bench, part: FoundLayer, check: SplitReport) -> LayerResult:
    """Sample one layer on every image and return what was measured.

    Raises:
        ShareDone: processes share the images, and this one is not the first.
    """
    model, x = part.model, bench.subject.x
    scale = model.meta["scale"]
    z: list[Activation] = [model.split.phi(one[None]) for one in x]
    draws, ladders = [], []
    certified: list[Certified] = []
    free: list[Certified] = []
    unrefined = _why_not_refined(bench, model)
    tangent = Tangent(model.split.phi_grad)
    pixel_scale = float(bench.controls.input.meta["scale"])

    def measured(image: int) -> tuple[Draws, Ladder, Certified | None, Certified | None]:
        one = x[image]
        reference = Reference(model.split, z[image], scale, tangent)
        perturb = bench.fresh_noise(image) if bench.domain == "high" else None
        drawn = draw(
            model,
            one[None],
            z[image],
            reference,
            samples=bench.samples,
            seed=bench.seed,
            image=image,
            perturb=perturb,
        )
        proven = beside = None
        if not unrefined:
            proven = certify(
                drawn.samples[: bench.refine],
                reference,
                bench.denoiser,
                one[None],
                model.reconstruct(one[None]),
                epsilon=epsilon_of(model.meta["eta"]),
                seed=bench.seed,
                image=image,
                scrutiny=Scrutiny(
                    model.meta["eta"],
                    bench.judge,
                    bench.subject.region,
                    pixel_scale,
                ),
            )
            if proven is not None:
                beside = baseline(
                    reference,
                    bench.denoiser,
                    one[None],
                    count=bench.refine,
                    epsilon=epsilon_of(model.meta["eta"]),
                    seed=bench.seed,
                    image=image,
                    judge=bench.judge,
                )
        rungs = ladder(
            drawn,
            reference,
            bench.controls,
            bench.yardsticks,
            one[None],
            seed=bench.seed,
            image=image,
            samples=bench.samples,
            perturb=perturb,
        )
        return drawn, rungs, proven, beside

    for drawn, rungs, proven, beside in share_out(len(x), measured, device=x.device):
        draws.append(drawn)
        ladders.append(rungs)
        certified += [] if proven is None else [proven]
        free += [] if beside is None else [beside]
    if not unrefined and len(certified) < len(x):
        unrefined = "no gradient of this layer reaches the image"
        certified.clear()
    metrics, measures = _figures(bench, model, draws, ladders, z, certified, free)
    kept = _kept(bench, model)
    metrics["representation_rmse_hu"] = None if kept is None else (kept - x).square().mean().sqrt().item()
    if measures.control is None:
        metrics["random_phi"], random = bench.random_phi.measure(
            TrainedLayer(model.split, scale, model.meta["eta"], pixel_scale),
            x,
            certified,
            bench.denoiser,
            samples=bench.samples,
            seed=bench.seed,
            region=bench.subject.region,
        )
        measures = dataclasses.replace(measures, random_weights=random)
    found = None
    if not unrefined:
        found = measure_variation(
            model.split,
            x,
            certified,
            free,
            bench.strangers,
            scale=scale,
            eta=model.meta["eta"],
            input_scale=pixel_scale,
            seed=bench.seed,
            model=model,
            reconstruction=kept,
            region=bench.subject.region,
            beside=None if measures.control else bench.beside,
            tangent=tangent,
            spacing=bench.subject.spacing,
        )
        metrics["variation"] = found.to_json()
    conclusion, verdict = concluded(measures, judge(measures), found, unrefined)
    return LayerResult(
        layer=model.split.layer,
        note=layer_note(model.split),
        draws=tuple(draws),
        swap=swapped(model, _own(bench, draws), z, _partners(bench, model, z)),
        metrics=metrics,
        verdict=verdict,
        conclusion=conclusion,
        trained=part.origin,
        provenance=model.meta,
        sha256=model.sha256,
        split=dataclasses.asdict(check),
        certified=tuple(certified),
        unrefined=unrefined,
        kept=kept,
    )


def _kept(bench: Bench, model: SampleModel) -> Tensor | None:
    """Return what the representation that samples are drawn in keeps of the images; nothing where these are high-dose partners.

    Shape `(B, 1, H, W)`, HU.
    """
    if bench.domain == "high":
        return None
    return torch.cat([model.reconstruct(one[None]) for one in bench.subject.x])


def _why_not_refined(bench: Bench, model: SampleModel) -> str:
    """Return the reason why nothing is refined, or nothing."""
    if bench.refine == 0:
        return "no refinement was asked for"
    if bench.domain == "high":
        return "high-dose images are not meant to lie in the fiber of the low-dose image"
    if model.meta["eta"] == 0:
        return "nothing is ever far from anything for this control"
    return ""


def _own(bench: Bench, draws: Sequence[Draws]) -> Tensor:
    """Return the images under test in the domain that is sampled; the samples' mean where a high-dose one is unknown."""
    if bench.domain == "low":
        return bench.subject.x
    if bench.subject.y is not None:
        return bench.subject.y.to(bench.subject.x)
    return torch.stack([drawn.mean for drawn in draws]).to(bench.subject.x)


def layer_note(split: Split) -> str:
    """Return what the plugin says of the layers asked for."""
    notes = {layer.key: layer.note for layer in split.denoiser.spec.layers}
    return "; ".join(notes[layer.text] for layer in split.layers if notes.get(layer.text))


def _partners(bench: Bench, model: SampleModel, z: Sequence[Activation]) -> list[Activation]:
    """Return z of the next image for each, or of a stranger where there is only one image."""
    if len(z) > 1:
        return [*z[1:], z[0]]
    return [model.split.phi(bench.strangers[:1])]


def _figures(
    bench: Bench,
    model: SampleModel,
    draws: Sequence[Draws],
    ladders: Sequence[Ladder],
    z: Sequence[Activation],
    certified: Sequence[Certified],
    free: Sequence[Certified],
) -> tuple[dict[str, Any], Measures]:
    seed = bench.seed

    def rms(values: Sequence[Tensor]) -> Interval:
        return root_mean_square(values, seed=seed)

    eta = model.meta["eta"]
    fiber_error, in_other_units = ladder_figures(
        [found.rungs for found in ladders], eta, bench.yardsticks, seed=seed
    )
    true_y = _true_high_dose(bench, model, z)
    if true_y is not None:
        fiber_error["true_y"] = true_y
    region = bench.subject.region
    spread = sample_spread([drawn.stack for drawn in draws], seed=seed, region=region)
    spread_input = sample_spread([rungs.input.stack for rungs in ladders], seed=seed, region=region)
    spread_const = sample_spread([rungs.const.stack for rungs in ladders], seed=seed, region=region)
    f_std = torch.stack([drawn.f_std for drawn in draws])
    f_std = f_std if region is None else region.pixels(f_std)
    spread_f = Interval(f_std.square().mean().sqrt().item())
    nll = {
        "layer": _nll(model, seed),
        "input": _nll(bench.controls.input, seed),
        "const": _nll(bench.controls.const, seed),
        "floor": Interval(model.meta["floor"]),
    }
    vae_rmse = bench.vae_rmse.square().mean().sqrt().item()
    metrics: dict[str, Any] = {
        "fiber_error": {name: value.to_json() for name, value in fiber_error.items()},
        "fiber_error_eta": _over(fiber_error["samples"], eta).to_json() if eta > 0 else None,
        "noise_distance": eta,
        "ladder": in_other_units,
        "f_error_hu": rms([drawn.f_error for drawn in draws]).to_json(),
        "spread_hu": spread.to_json(),
        "spread_input_hu": spread_input.to_json(),
        "spread_const_hu": spread_const.to_json(),
        "spread_f_hu": spread_f.to_json(),
        "vae_rmse_hu": vae_rmse,
        "vae_limit_hu": bench.vae_limit,
        "nll": {name: value.to_json() for name, value in nll.items()},
    }
    proof, certification = certification_figures(
        certified, free, pixel_scale=bench.controls.input.meta["scale"], seed=seed, region=region
    )
    if proof is not None:
        metrics["certified"] = proof
    kinds: tuple[Literal["input", "const"], ...] = ("input", "const")
    control = next((kind for kind in kinds if kind == model.split.layer), None)
    measures = Measures(
        layer=f"`{control}`" if control else f"layer {model.split.layer} of {bench.denoiser.name}",
        spread=spread,
        fiber_error={name: value for name, value in fiber_error.items() if name != "true_y"},
        spread_input=spread_input,
        spread_f=spread_f,
        noise_distance=eta,
        vae_rmse=vae_rmse,
        vae_limit=bench.vae_limit,
        nll=nll,
        control=control,
        domain=bench.domain,
        certification=certification,
        bank=len(bench.yardsticks.bank),
    )
    return metrics, measures


def _true_high_dose(bench: Bench, model: SampleModel, z: Sequence[Activation]) -> Interval | None:
    """Return the fiber error of the true high-dose image with fresh noise, beside which the samples' stands."""
    if bench.domain != "high" or bench.subject.y is None:
        return None
    errors = []
    for image, (y, activation) in enumerate(zip(bench.subject.y.to(bench.subject.x), z, strict=True)):
        noisy = bench.fresh_noise(image)(y[None].expand(25, -1, -1, -1), range(25))
        errors.append(activation_distance(model.split.phi(noisy), activation).cpu() / model.meta["scale"])
    return root_mean_square(errors, seed=bench.seed)


def _over(interval: Interval, unit: float) -> Interval:
    return Interval(interval.value / unit, interval.low / unit, interval.high / unit)


def _nll(model: SampleModel, seed: int) -> Interval:
    """Return the held-out NLL in nats per dimension, with an interval over patients."""
    return bootstrap(model.nll_rows, groups=model.patients.tolist(), seed=seed)
