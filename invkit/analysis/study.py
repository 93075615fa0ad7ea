"""What every layer of one analysis is measured with."""

__all__ = ["Study"]

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from invkit.analysis.specs import SamplingSpec
from invkit.analysis.subject import Subject
from invkit.certificates.judge import Judge, Placed
from invkit.data.bank import PatchBank
from invkit.data.dose.image import estimate_noise, noise_texture
from invkit.data.patches import Domain
from invkit.denoisers.loaded import LoadedDenoiser
from invkit.fiber.tangent import Tangent
from invkit.images.region import Region
from invkit.images.tissue import TISSUES, Tissue, places_for
from invkit.measures.comparison import Controls, reconstruct, reference_images
from invkit.measures.completeness import CodeLimits, code_limits
from invkit.measures.output.summary import Output, measure_output
from invkit.measures.random_weights import WeightRandomisation
from invkit.measures.references import References, from_prior
from invkit.measures.structures.marked import Marking
from invkit.measures.structures.plan import RADII, Breadth
from invkit.measures.structures.summary import Structures, measure_structures
from invkit.measures.window import choose_window
from invkit.noise.covariance import NoiseCovariance
from invkit.noise.simulated import noise_of
from invkit.parts.scales import ScaleRequest, find_scales
from invkit.parts.workshop import Workshop
from invkit.posterior.draws import Posterior, PosteriorDraws
from invkit.samplers.family import FoundLayer
from invkit.sampling.base import SampleModel
from invkit.sampling.layer import ScaledLayer
from invkit.split.split import Split
from invkit.tolerance.layer import TolerancedLayer
from invkit.training.seeds import derive_seed, generator
from invkit.vae.trained import TrainedVae

STEP = 32  # pixels, of what is cut out of large images: grids of deep layers are as coarse


@dataclass(frozen=True)
class Study:
    """What every layer of one analysis is measured with; controls, VAE and likelihoods are there where samples come of training.

    Args:
        denoiser: f.
        subject: the images under test.
        f_x: f(x), `(B, 1, H, W)`, HU.
        sampling: what is asked for.
        workshop: where trained parts come from.
        references: what samples are compared with besides the controls.
        randomised: the network with redrawn weights.
        pixel_scale: s_Phi of `input`, HU.
        judge: places the images among held-out ones.
        controls: the models of `input` and `const`; `None` where samples need no training.
        low: the VAE of low-dose images; `None` where none was needed and none available.
        reconstruction: D(E(x)), `(B, 1, H, W)`, HU; `None` without controls.
    """

    denoiser: LoadedDenoiser
    subject: Subject
    f_x: Tensor
    sampling: SamplingSpec
    workshop: Workshop
    references: References
    randomised: WeightRandomisation
    pixel_scale: float
    judge: Judge
    controls: Controls | None
    low: TrainedVae | None
    reconstruction: Tensor | None
    _kept: dict[int, Tensor] = field(default_factory=dict, repr=False)
    _identities: list[TolerancedLayer] = field(default_factory=list, repr=False)
    _identities_in: dict[Tissue, list[TolerancedLayer]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        denoiser: LoadedDenoiser,
        subject: Subject,
        f_x: Tensor,
        sampling: SamplingSpec,
        workshop: Workshop,
        *,
        controls: Controls | None,
        randomised: WeightRandomisation | None = None,
    ) -> "Study":
        """Return a study; other images of the dose and size of those under test are drawn here.

        Args:
            denoiser: f.
            subject: the images, on the denoiser's device.
            f_x: f(x), `(B, 1, H, W)`, HU.
            sampling: what is asked for.
            workshop: whose slices' test part other images are drawn from.
            controls: the models of `input` and `const`, where samples come of training.
            randomised: the network with redrawn weights; by default no model of it is trained.
        """
        size = (subject.x.shape[-2], subject.x.shape[-1])
        slices, dose, seed = workshop.slices, workshop.config.dose, sampling.seed
        keep = workshop.store.root
        others, patients = reference_images(slices, size, dose=dose, seed=seed)
        low = workshop.found_vae("low") if controls is None else workshop.vae("low")
        reconstruction = prior = None
        if controls is not None and low is not None:
            reconstruction = reconstruct(low.vae, subject.x)
            prior = from_prior(workshop.vae(sampling.domain).vae, size, seed=seed)
        return cls(
            denoiser=denoiser,
            subject=subject,
            f_x=f_x,
            sampling=sampling,
            workshop=workshop,
            references=References(
                denoiser=denoiser,
                x=subject.x,
                reconstruction=reconstruction,
                images=others.to(subject.x),
                patients=patients,
                prior=prior,
                bank=PatchBank.draw(
                    slices.part("test"), size, dose=dose, seed=derive_seed(seed, "bank"), keep=keep
                ),
                seed=seed,
            ),
            randomised=randomised or WeightRandomisation.of(denoiser, seed=workshop.seed),
            pixel_scale=_scales(Split(denoiser, "input"), workshop)[0]
            if controls is None
            else float(controls.input.meta["scale"]),
            judge=Judge(denoiser, low, slices, size, dose, seed, keep),
            controls=controls,
            low=low,
            reconstruction=reconstruction,
        )

    @property
    def domain(self) -> Domain:
        """Which images are sampled."""
        return self.sampling.domain

    @property
    def seed(self) -> int:
        """Of every draw."""
        return self.sampling.seed

    @cached_property
    def placed(self) -> tuple[Placed, ...]:
        """Where each image stands among held-out ones."""
        pairs = zip(self.subject.x.split(1), self.f_x.split(1), strict=True)
        return tuple(self.judge.place(x, f_x) for x, f_x in pairs)

    @cached_property
    def limits(self) -> CodeLimits | None:
        """What the codes that are sampled in leave open and hold, the mean over the images; `None` without such codes."""
        if self.controls is None:
            return None
        vae = self.workshop.vae(self.domain).vae
        x = (
            self.subject.x
            if self.domain == "low" or self.subject.y is None
            else self.subject.y.to(self.subject.x)
        )
        found = [code_limits(vae, one, self.noises[k], seed=self.seed) for k, one in enumerate(x.split(1))]
        return CodeLimits(
            posterior=(sum(one.posterior**2 for one in found) / len(found)) ** 0.5,
            held=sum(one.held for one in found) / len(found),
            needed=sum(one.needed for one in found) / len(found),
        )

    @property
    def vae_rmse(self) -> float | None:
        """Error of the VAE's reconstruction of the images, HU; `None` without it."""
        if self.reconstruction is None:
            return None
        errors = (self.reconstruction - self.subject.x).flatten(1).square().mean(1).sqrt()
        return errors.square().mean().sqrt().item()

    @property
    def vae_limit(self) -> float | None:
        """The VAE's 99 % quantile of its own error on held-out patches, HU; `None` where nothing was trained."""
        if self.controls is None or self.low is None:
            return None
        return float(self.low.meta["held_out"]["rmse_quantiles_hu"]["0.99"])

    def scaled(self, found: FoundLayer) -> ScaledLayer:
        """Return a layer with its units: its model's, or measured on held-out patches where there is none."""
        if found.model is not None:
            scale, eta = float(found.model.meta["scale"]), float(found.model.meta["eta"])
        else:
            scale, eta = _scales(found.split, self.workshop)
        return ScaledLayer.of(found.split, scale, eta, self.pixel_scale)

    def kept(self, model: SampleModel | None) -> Tensor | None:
        """Return what a model's representation keeps of the images, D(E(x)), `(B, 1, H, W)`, HU.

        There is none where nothing was trained. It is computed once for all layers that share a VAE.
        """
        if model is None:
            return None
        code = getattr(model, "vae", model)
        if self.low is not None and self.reconstruction is not None and code is self.low.vae:
            return self.reconstruction
        if id(code) not in self._kept:
            self._kept[id(code)] = torch.cat([model.reconstruct(one[None]) for one in self.subject.x])
        return self._kept[id(code)]

    def toleranced(self, layer: ScaledLayer) -> list[TolerancedLayer]:
        """Return a layer with its tolerance at every image; of a large one, in the window that is measured.

        Raises:
            SplitError: no gradient of the layer reaches the image.
        """
        return self._toleranced(layer.split, layer.tangent)

    def identities(self) -> list[TolerancedLayer]:
        """Return the identity likewise; its own tolerance counts for nothing."""
        if not self._identities:
            identity = Split(self.denoiser, "input")
            self._identities.extend(self._toleranced(identity, Tangent(identity.phi_grad)))
        return self._identities

    def drawn(self, layers: Sequence[TolerancedLayer]) -> list[PosteriorDraws]:
        """Return as many draws of the posterior as are asked for, at every image, and two at least; none where none are.

        Raises:
            SplitError: no gradient of the layer reaches the image.
        """
        if self.sampling.refined == 0:
            return []
        return [
            Posterior.of(layer).draw(
                max(2, self.sampling.refined), seed=self.seed, stream=f"posterior {image}"
            )
            for image, layer in enumerate(layers)
        ]

    def _marked(self, layers: Sequence[TolerancedLayer]) -> Marking | None:
        """Return the marked structure with layer and identity around it; `None` where none is marked."""
        box = self.subject.structure
        if box is None:
            return None
        if choose_window(self.subject.x).whole or box.within(layers[0].interior):
            return Marking(box, layers[0], self.identities()[0])
        mask = torch.zeros(self.subject.x.shape[-2:], dtype=torch.bool)
        mask[box.place] = True
        around, identity = Region(mask, f"the structure {box}"), self.identities()[0]
        layer, same = (
            self._toleranced(one.split, one.tangent, region=around)[0] for one in (layers[0], identity)
        )
        return Marking(box, layer.at(layers[0].tolerance), same)

    def structures(self, layers: Sequence[TolerancedLayer], draws: Sequence[PosteriorDraws]) -> Structures:
        """Return what becomes of structures and of noise at a layer.

        Args:
            layers: with its tolerance, at each image.
            draws: of its posterior.
        """
        return measure_structures(
            layers,
            self.identities(),
            draws,
            size=(self.subject.x.shape[-2], self.subject.x.shape[-1]),
            spacing=self.subject.spacing,
            seed=self.seed,
            full=Breadth(self.workshop.say, lambda tissue: self._elsewhere(layers[0], tissue))
            if self.sampling.structures == "full"
            else None,
            marking=self._marked(layers),
        )

    def _elsewhere(
        self, layer: TolerancedLayer, tissue: Tissue
    ) -> tuple[list[TolerancedLayer], list[TolerancedLayer]] | None:
        """Return a layer and the identity at other windows of large images, with the most of a tissue; `None` without any."""
        if tissue == TISSUES[0] or self.subject.region is not None:
            return None
        large = [one for one in self.subject.x.split(1) if not choose_window(one).whole]
        if not any(places_for(one, tissue, RADII[:1], 1, seed=0) for one in large):
            return None
        if tissue not in self._identities_in:
            identity = self.identities()[0]
            self._identities_in[tissue] = self._toleranced(identity.split, identity.tangent, tissue)
        return self._toleranced(layer.split, layer.tangent, tissue), self._identities_in[tissue]

    @cached_property
    def output(self) -> Output | None:
        """What becomes of structures and of noise at the output; `None` where no tissue has a place for a disc."""
        return measure_output(self.identities(), spacing=self.subject.spacing, seed=self.seed)

    @cached_property
    def noises(self) -> tuple[NoiseCovariance, ...]:
        """The covariance of the noise of every image, from the user's scans or simulated."""
        scans, spacing = self.subject.noise_scans, self.subject.spacing
        return tuple(
            scans.covariance(x, spacing) if scans is not None else noise_of(x, spacing, stationary=level > 0)
            for x, level in zip(self.subject.x.split(1), self.subject.noise, strict=True)
        )

    def _toleranced(
        self,
        split: Split,
        tangent: Tangent,
        tissue: Tissue = TISSUES[0],
        region: Region | None = None,
    ) -> list[TolerancedLayer]:
        found = []
        step = math.lcm(STEP, self.denoiser.size_multiple)
        for image, (x, f_x) in enumerate(zip(self.subject.x.split(1), self.f_x.split(1), strict=True)):
            noise = self.noises[image]
            window = choose_window(x, region or self.subject.region, tissue)
            inner, origin = None, (0, 0)
            if not window.whole:
                inner, around = window.within((x.shape[-2], x.shape[-1]), step)
                origin = (around[0].start, around[1].start)
                x = x[(..., *around)].contiguous()
                f_x = self.denoiser(x)
                noise = noise.cropped(noise.deviation[around].contiguous())
            seed = derive_seed(self.seed, "structures", image)
            found.append(
                TolerancedLayer.of(
                    split, x, f_x, noise, seed=seed, tangent=tangent, inner=inner, origin=origin
                )
            )
        return found

    def fresh_noise(self, image: int) -> Callable[[Tensor, Sequence[int]], Tensor]:
        """Return a function that adds fresh low-dose noise to high-dose samples of these indices."""
        level = self.subject.noise[image]
        if level == 0:
            # x is taken as it is: of its own noise, high dose would have the part that is left out here.
            level = estimate_noise(self.subject.x[image, 0]) * (1 - self.workshop.config.dose) ** 0.5

        def add(images: Tensor, indices: Sequence[int]) -> Tensor:
            size = (images.shape[-2], images.shape[-1])
            noise = [
                noise_texture(1, *size, generator=generator(self.seed, "n", image, index))
                for index in indices
            ]
            return images + level * torch.cat(noise).to(images)

        return add


def _scales(split: Split, workshop: Workshop) -> tuple[float, float]:
    config = workshop.config
    request = ScaleRequest(split, workshop.slices, config.pairs, config.dose, workshop.seed)
    return find_scales(request, workshop.store, device=workshop.device)
