"""An analysis that needs no training: training-free proposals for any layer of any module, refined and certified."""

__all__ = ["examine_untrained"]

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from invkit._version import __version__
from invkit.analysis.examine import trained_on
from invkit.analysis.measure import layer_note
from invkit.analysis.memory import state_memory
from invkit.analysis.outcome import LayerResult
from invkit.analysis.result import AnalysisResult
from invkit.analysis.subject import Subject
from invkit.certificates.certify import Certified, Scrutiny, epsilon_of, refine_proposals
from invkit.certificates.figures import certification_figures
from invkit.certificates.judge import Judge
from invkit.data.bank import PatchBank
from invkit.data.slices import SliceSet
from invkit.denoisers.loaded import LoadedDenoiser
from invkit.fiber.tangent import Tangent
from invkit.measures.ladder import ladder_figures, strangers
from invkit.measures.random_weights import RandomPhi, TrainedLayer
from invkit.measures.rungs import Rung, Yardsticks
from invkit.measures.variation import concluded, measure_variation
from invkit.parts.config import LayerConfig
from invkit.parts.scales import ScaleRequest, find_scales
from invkit.parts.store import Store
from invkit.samplers.parts import silent
from invkit.sampling.draw import Draws, Reference, draw
from invkit.sampling.spread import root_mean_square, sample_spread
from invkit.sampling.training_free import TrainingFree
from invkit.split.check import SplitReport
from invkit.split.split import Split
from invkit.statistics.intervals import Interval
from invkit.training.seeds import derive_seed
from invkit.vae.trained import TrainedVae
from invkit.verdict.measures import Measures
from invkit.verdict.rules import judge


def examine_untrained(
    layers: Iterable[tuple[Split, SplitReport]],
    *,
    denoiser: LoadedDenoiser,
    subject: Subject,
    slices: SliceSet,
    store: Store,
    config: LayerConfig,
    samples: int,
    seed: int,
    train_seed: int = 0,
    refine: int = 0,
    low: TrainedVae | None = None,
    beside: LoadedDenoiser | None = None,
    memory: int | None = None,
    say: Callable[[str], None] = silent,
) -> AnalysisResult:
    """Propose, refine and certify for every layer on the same images and return what was measured.

    No VAE and no cINN is needed, so there are no learned controls and no likelihoods; a VAE that is at hand judges what is
    certified. What is needed besides the denoiser are held-out patches, for the layer's scale and for the images that samples
    are compared with.

    Args:
        layers: what stands there and what the split's check found, in the order of the report.
        denoiser: f.
        subject: the images, on the denoiser's device.
        slices: whose test part the patches are drawn from.
        store: where a layer's scales are kept.
        config: `pairs` and `dose` are read.
        samples: N, draws for each image.
        seed: decides every draw.
        train_seed: decides the patches behind the scales, as in a training.
        refine: how many draws of each image are refined onto the fiber.
        low: a VAE of low-dose images, where one is at hand: critic score and code of what is certified are judged by it.
        beside: another denoiser, for which it is asked whether it ignores the same.
        memory: most bytes that the process may take; `None` for what the machine has.
        say: called with one line for each layer.

    Raises:
        ResourceError: it would take more memory than there is; found before anything is sampled.
    """

    def scales(split: Split) -> tuple[float, float]:
        request = ScaleRequest(split, slices, config.pairs, config.dose, train_seed)
        return find_scales(request, store, device=subject.x.device)

    with torch.no_grad():
        f_x = denoiser(subject.x)
    size = (subject.x.shape[-2], subject.x.shape[-1])
    others, patients = strangers(slices, size, dose=config.dose, seed=seed)
    others = others.to(subject.x)
    bench = _Bench(
        denoiser=denoiser,
        subject=subject,
        f_x=f_x,
        strangers=others,
        yardsticks=Yardsticks(
            denoiser=denoiser,
            x=subject.x,
            reconstruction=None,
            strangers=others,
            patients=patients,
            prior=None,
            bank=PatchBank.drawn(slices.part("test"), size, dose=config.dose, seed=derive_seed(seed, "bank")),
            seed=seed,
        ),
        random_phi=RandomPhi.of(denoiser, slices, dose=config.dose, seed=train_seed),
        pixel_scale=scales(Split(denoiser, "input"))[0],
        judge=Judge(denoiser, low, slices, size, config.dose, seed),
        beside=beside,
        samples=samples,
        refine=min(refine, samples),
        seed=seed,
    )
    measured, warnings = [], []
    layers = list(layers)
    plan = state_memory(
        [split for split, _ in layers],
        [],
        subject.x,
        samples=samples,
        refined=bench.refine,
        limit=memory,
        say=say,
    )
    for split, check in layers:
        if check.bypass:
            warnings.append(
                f"Layer {check.layer} is not a cut: a skip connection goes round it, and another image brings about "
                f"{100 * check.leak:.2g} % of its change of the output though z stays. What is shown holds for z alone."
            )
        say(f"proposing {samples} images for layer {split.layer}, without training")
        measured.append(bench.measure(split, check, *scales(split)))
    return AnalysisResult(
        model=denoiser.name,
        subject=subject,
        domain="low",
        sampler="training-free",
        layers=tuple(measured),
        f_x=f_x,
        vae=None,
        warnings=tuple(warnings),
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
            "sampler": "training-free",
            **({} if low is None else {"vae": {"sha256": low.sha256, "trained_on": low.meta["trained_on"]}}),
            "image_sha256": subject.sha256,
            "data": slices.description,
            "config": {"pairs": config.pairs, "dose": config.dose},
            "samples": samples,
            "refine": refine,
            "seed": seed,
            "domain": "low",
            "threads": torch.get_num_threads(),
            "memory": plan.to_json(),
        },
    )


@dataclass(frozen=True)
class _Bench:
    """What every layer of one analysis is measured with."""

    denoiser: LoadedDenoiser
    subject: Subject
    f_x: Tensor
    strangers: Tensor
    yardsticks: Yardsticks
    random_phi: RandomPhi
    pixel_scale: float
    judge: Judge
    beside: LoadedDenoiser | None
    samples: int
    refine: int
    seed: int

    def measure(self, split: Split, check: SplitReport, scale: float, eta: float) -> LayerResult:
        draws: list[Draws] = []
        certified: list[Certified] = []
        rungs: list[dict[str, Rung]] = []
        unrefined = ""
        if self.refine == 0:
            unrefined = "no refinement was asked for"
        elif eta == 0:
            unrefined = "this layer is the same for all images, so every image lies in its fiber"
        tangent = Tangent(split.phi_grad)
        for image in range(len(self.subject.x)):
            x, f_x = (part[image : image + 1] for part in (self.subject.x, self.f_x))
            reference = Reference(split, split.phi(x), scale, tangent)
            drawn = draw(
                TrainingFree(x, f_x),
                x,
                reference.z,
                reference,
                samples=self.samples,
                seed=self.seed,
                image=image,
            )
            draws.append(drawn)
            beside = self.yardsticks.rungs(drawn, reference, image)
            # What is sampled is this rung itself.
            del beside["training_free"]
            rungs.append({**beside, "samples": Rung(drawn.fiber_error, drawn.f_error)})
            if unrefined:
                continue
            proposals = drawn.samples[: self.refine].to(x)
            proven = refine_proposals(
                proposals,
                reference,
                self.denoiser,
                x,
                epsilon=epsilon_of(eta),
                scrutiny=Scrutiny(eta, self.judge, self.subject.region, self.pixel_scale),
            )
            if proven is None:
                unrefined = "no gradient of this layer reaches the image"
            else:
                certified.append(proven)
        if unrefined:
            certified.clear()
        metrics, measures = self._figures(split, draws, rungs, certified, eta)
        if not split.is_control:
            metrics["random_phi"], random = self.random_phi.measure(
                TrainedLayer(split, scale, eta, self.pixel_scale),
                self.subject.x,
                certified,
                self.denoiser,
                samples=self.samples,
                seed=self.seed,
                region=self.subject.region,
            )
            measures = dataclasses.replace(measures, random_weights=random)
        found = None
        if not unrefined:
            found = measure_variation(
                split,
                self.subject.x,
                certified,
                (),
                self.strangers,
                scale=scale,
                eta=eta,
                input_scale=self.pixel_scale,
                seed=self.seed,
                region=self.subject.region,
                beside=None if split.is_control else self.beside,
                tangent=tangent,
                spacing=self.subject.spacing,
            )
            metrics["variation"] = found.to_json()
        conclusion, verdict = concluded(measures, judge(measures), found, unrefined)
        return LayerResult(
            layer=split.layer,
            note=layer_note(split),
            draws=tuple(draws),
            swap=None,
            metrics=metrics,
            verdict=verdict,
            conclusion=conclusion,
            trained="not needed",
            provenance={"phi": split.describe(), "scale": scale, "eta": eta},
            sha256="",
            split=dataclasses.asdict(check),
            certified=tuple(certified),
            unrefined=unrefined,
        )

    def _figures(
        self,
        split: Split,
        draws: list[Draws],
        rungs: list[dict[str, Rung]],
        certified: list[Certified],
        eta: float,
    ) -> tuple[dict[str, Any], Measures]:
        seed, region = self.seed, self.subject.region
        fiber_error, in_other_units = ladder_figures(rungs, eta, self.yardsticks, seed=seed)
        spread = sample_spread([drawn.stack for drawn in draws], seed=seed, region=region)
        f_std = torch.stack([drawn.f_std for drawn in draws])
        f_std = f_std if region is None else region.pixels(f_std)
        spread_f = Interval(f_std.square().mean().sqrt().item())
        in_eta = [drawn.fiber_error / eta for drawn in draws] if eta > 0 else None
        metrics: dict[str, Any] = {
            "fiber_error": {name: value.to_json() for name, value in fiber_error.items()},
            "fiber_error_eta": None if in_eta is None else root_mean_square(in_eta, seed=seed).to_json(),
            "noise_distance": eta,
            "ladder": in_other_units,
            "f_error_hu": root_mean_square([drawn.f_error for drawn in draws], seed=seed).to_json(),
            "spread_hu": spread.to_json(),
            "spread_f_hu": spread_f.to_json(),
        }
        proof, certification = certification_figures(
            certified, (), pixel_scale=self.pixel_scale, seed=seed, region=region
        )
        if proof is not None:
            metrics["certified"] = proof
        measures = Measures(
            layer=f"layer {split.layer} of {self.denoiser.name}",
            spread=spread,
            fiber_error=fiber_error,
            spread_f=spread_f,
            noise_distance=eta,
            certification=certification,
            untrained=True,
            bank=len(self.yardsticks.bank),
        )
        return metrics, measures
