"""Measuring layers on images, once everything that is needed is trained: the second half of an analysis."""

__all__ = ["examine"]

from collections.abc import Callable, Iterable

import torch

from invkit._version import __version__
from invkit.analysis.bench import Bench
from invkit.analysis.calibrated import with_calibration
from invkit.analysis.measure import measure_layer
from invkit.analysis.memory import state_memory
from invkit.analysis.outcome import LayerResult
from invkit.analysis.result import AnalysisResult
from invkit.analysis.subject import Subject
from invkit.certificates.judge import Judge
from invkit.data.bank import PatchBank
from invkit.data.patches import Domain
from invkit.data.slices import SliceSet
from invkit.denoisers.loaded import LoadedDenoiser
from invkit.measures.curves import layer_curves
from invkit.measures.ladder import Controls, reconstruct, strangers
from invkit.measures.random_weights import RandomPhi
from invkit.measures.rungs import Yardsticks, from_prior
from invkit.parts.config import LayerConfig
from invkit.samplers.parts import FoundLayer, silent
from invkit.sampling.base import SampleModel
from invkit.split.check import SplitReport
from invkit.training.processes.sharing import first_only, share_out
from invkit.training.seeds import derive_seed
from invkit.vae.trained import TrainedVae


def examine(
    layers: Iterable[tuple[FoundLayer, SplitReport]],
    *,
    denoiser: LoadedDenoiser,
    subject: Subject,
    controls: Controls,
    low: TrainedVae,
    target: TrainedVae,
    slices: SliceSet,
    config: LayerConfig,
    samples: int,
    seed: int,
    domain: Domain,
    refine: int = 0,
    random_phi: RandomPhi | None = None,
    beside: LoadedDenoiser | None = None,
    memory: int | None = None,
    say: Callable[[str], None] = silent,
) -> AnalysisResult:
    """Sample every layer on the same images and return what was measured.

    Args:
        layers: their trained models and what the split's check found, in the order of the report.
        denoiser: f.
        subject: the images, on the denoiser's device.
        controls: the models of `input` and `const`.
        low: the VAE of low-dose images.
        target: the VAE of the domain that is sampled.
        slices: what the parts were trained on; other images are drawn from its test part.
        config: of the layers.
        samples: N, draws for each image.
        seed: decides every draw.
        domain: `"low"` or `"high"`: which images are sampled.
        refine: how many draws of each image are refined onto the fiber.
        random_phi: the network with weights drawn anew; by default it is drawn here, and no model of it is trained.
        memory: most bytes that the process may take; `None` for what the machine has.
        beside: another denoiser, for which it is asked whether it ignores the same.
        say: called with one line for each layer.

    Raises:
        ResourceError: it would take more memory than there is; found before anything is sampled.
        ShareDone: processes share the work, and this one is not the first, whose result it is.
    """
    size = (subject.x.shape[-2], subject.x.shape[-1])
    held_out = slices.part("test")
    reconstruction = reconstruct(low.vae, subject.x)
    others, patients = strangers(slices, size, dose=config.dose, seed=seed)
    others = others.to(subject.x)
    bench = Bench(
        denoiser=denoiser,
        subject=subject,
        controls=controls,
        strangers=others,
        reconstruction=reconstruction,
        yardsticks=Yardsticks(
            denoiser=denoiser,
            x=subject.x,
            reconstruction=reconstruction,
            strangers=others,
            patients=patients,
            prior=from_prior(target.vae, size, seed=seed),
            bank=PatchBank.drawn(held_out, size, dose=config.dose, seed=derive_seed(seed, "bank")),
            seed=seed,
        ),
        random_phi=random_phi or RandomPhi.of(denoiser, slices, dose=config.dose),
        vae_limit=low.meta["held_out"]["rmse_quantiles_hu"]["0.99"],
        samples=samples,
        seed=seed,
        domain=domain,
        dose=config.dose,
        refine=min(refine, samples),
        beside=beside,
        judge=Judge(denoiser, low, slices, size, config.dose, seed),
    )
    models: list[SampleModel] = []
    warnings: list[str] = []
    bypassed: list[str] = []
    if denoiser.weights_tag == "built" and denoiser.spec.recipe is not None:
        warnings.append(
            f"{denoiser.name} comes without trained weights, so what is analysed is the network as it is built. "
            f"`invkit train denoiser {denoiser.name}` trains it."
        )
    parts = list(layers)
    for part, check in parts:
        if check.bypass:
            warnings.append(
                f"Layer {check.layer} is not a cut: a skip connection goes round it, and another image brings about "
                f"{100 * check.leak:.2g} % of its change of the output though z stays. What is shown holds for z alone."
            )
        if not part.model.split.is_control:
            models.append(part.model)
        if check.bypass:
            bypassed.append(part.model.split.layer)

    plan = state_memory(
        [part.model.split for part, _ in parts],
        [parts[0][0].model],  # they are all of one kind and size
        subject.x,
        samples=samples,
        refined=bench.refine if domain == "low" else 0,
        limit=memory,
        say=say,
    )

    def sampled(index: int) -> LayerResult:
        part, check = parts[index]
        say(f"sampling {samples} images for layer {part.model.split.layer}")
        return with_calibration(measure_layer(bench, part, check), part.model)

    measured = share_out(len(parts), sampled, device=subject.x.device)
    first_only()
    retained, regression = layer_curves(models, controls, bypassed=bypassed, seed=seed)
    for layer in measured:
        if retained is not None and layer.layer in retained.layers:
            of_layer = retained.retained[retained.layers.index(layer.layer)]
            layer.metrics["retained_information"] = of_layer.to_json()
        if regression is not None and layer.layer in regression.layers:
            of_layer = regression.rmse[regression.layers.index(layer.layer)]
            layer.metrics["regression_rmse_hu"] = of_layer.to_json()
    if len(models) > 1:
        for curve in (retained, regression):
            warnings += curve.reasons if curve is not None else ()
    return AnalysisResult(
        model=denoiser.name,
        subject=subject,
        domain=domain,
        layers=tuple(measured),
        f_x=denoiser(subject.x),
        vae=bench.reconstruction,
        warnings=tuple(warnings),
        retained=retained,
        regression=regression,
        provenance={
            "invkit": __version__,
            "torch": str(torch.__version__),
            "denoiser": {
                "name": denoiser.name,
                "description": denoiser.spec.description,
                "weights": denoiser.weights_tag,
                "trained_on": trained_on(denoiser),
                "sha256": denoiser.sha256,
            },
            "vae": {"sha256": low.sha256, "trained_on": low.meta["trained_on"]},
            "target_vae": {"sha256": target.sha256, "trained_on": target.meta["trained_on"]},
            "image_sha256": subject.sha256,
            "data": slices.description,
            "config": config.model_dump(mode="json"),
            "samples": samples,
            "refine": refine,
            "seed": seed,
            "domain": domain,
            "threads": torch.get_num_threads(),
            "memory": plan.to_json(),
        },
    )


def trained_on(denoiser: LoadedDenoiser) -> str:
    """Return what a denoiser's weights were trained on, as its plugin says."""
    for weights in denoiser.spec.weights:
        if weights.tag == denoiser.weights_tag:
            return weights.trained_on
    return "data that its plugin does not name"
