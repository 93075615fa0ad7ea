"""The same network with redrawn weights: how much of what is found needs no training to be ignored."""

__all__ = ["WeightRandomisation", "redrawn"]

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import EllipsisType
from typing import Any, Self

import torch
from torch import Tensor, nn

from invkit.certificates.certify import Certified, refine_proposals
from invkit.data.patches import PatchSampler
from invkit.data.slices import SliceSet
from invkit.denoisers.loaded import LoadedDenoiser, load_denoiser
from invkit.errors import InvkitError, SplitError
from invkit.fiber.refine import refine
from invkit.images.region import Region
from invkit.measures.comparison import CONTROL_SAMPLES
from invkit.parts.scales import layer_scales, scale_sampler
from invkit.samplers.family import FoundLayer
from invkit.sampling.base import SampleModel
from invkit.sampling.draw import draw
from invkit.sampling.layer import ScaledLayer, allowed_spread
from invkit.sampling.spread import root_mean_square, sample_spread
from invkit.split.split import Split
from invkit.statistics.intervals import bootstrap
from invkit.training.seeds import derive_seed
from invkit.verdict.measures import RandomWeights

WINDOW = 64  # pixels a side
SAMPLES = 6  # of each image at most that are refined
TRIAL_STEPS, TRIAL_PRODUCTS = 8, 30
PAIRS = 64  # of patches, behind s_Phi: an eighth of a trained layer's, whose scale is measured once and kept

NO_WEIGHTS = "its network has no weights that could be redrawn"


def redrawn(denoiser: LoadedDenoiser, *, seed: int = 0) -> LoadedDenoiser:
    """Return a denoiser with the same network, freshly initialised.

    A network that a plugin builds is built again. One that was given as such is copied, and each of its modules initialises
    itself anew (`reset_parameters`).

    Args:
        denoiser: whose architecture and preprocessing are taken.
        seed: of the weights.

    Raises:
        InvkitError: there are no weights, or not all of them can be redrawn.
    """
    own = derive_seed(seed, "random phi")
    if denoiser.weights_tag == "given":
        network = _reset(denoiser.network, own).to(denoiser.device)
    else:
        tagged = [weights.build for weights in denoiser.spec.weights if weights.tag == denoiser.weights_tag]
        build = next((build for build in tagged if build is not None), denoiser.spec.build)
        spec = replace(denoiser.spec, build=build)
        network = load_denoiser(spec, device=denoiser.device, untrained_seed=own).network
    random = LoadedDenoiser(
        denoiser.spec, network, weights_tag=f"random-{seed}", preprocessing=denoiser.preprocessing
    )
    if random.sha256 == denoiser.sha256:
        raise InvkitError(NO_WEIGHTS)
    return random


def _reset(network: nn.Module, seed: int) -> nn.Module:
    try:
        fresh = copy.deepcopy(network).float().cpu().eval().requires_grad_(False)
    except Exception as error:
        raise InvkitError(f"its network cannot be copied: {type(error).__name__}") from None
    with torch.random.fork_rng(devices=[]):
        # Only the CPU's generator, as where a denoiser is built: no other state may change.
        torch.default_generator.manual_seed(seed)
        for name, module in fresh.named_modules():
            if not list(module.parameters(recurse=False)):
                continue
            reset = getattr(module, "reset_parameters", None)
            if not callable(reset):
                raise InvkitError(f"its module {name or 'network'} has no `reset_parameters`")
            with torch.no_grad():
                reset()
    return fresh


@dataclass(frozen=True)
class WeightRandomisation:
    """Layers of the network with redrawn weights, measured with the samples of the trained ones.

    What these layers ignore, the architecture ignores; training has a part only in what goes beyond it.

    Args:
        denoiser: the network with its new weights; `None` where there is none.
        why_not: why there is none.
        sampler: of held-out patches, which the layers' scales are measured on.
        models: trained cINNs of its layers, by the layer's name; empty where layers are refined only.
    """

    denoiser: LoadedDenoiser | None
    why_not: str
    sampler: PatchSampler
    models: Mapping[str, SampleModel] = field(default_factory=dict)

    @classmethod
    def of(cls, denoiser: LoadedDenoiser, slices: SliceSet, *, dose: float, seed: int = 0) -> Self:
        """Return the control of a denoiser; one that says why there is none where its weights cannot be redrawn.

        As in the bank, the noise of patches is added in the image whatever the set says.

        Args:
            denoiser: f.
            slices: what the parts were trained on.
            dose: of the low-dose images, as a fraction of the high dose.
            seed: of the weights.
        """
        sampler = scale_sampler(replace(slices, noise="image"), dose=dose, seed=seed, size=WINDOW)
        try:
            return cls(redrawn(denoiser, seed=seed), "", sampler)
        except InvkitError as error:
            return cls(None, str(error), sampler)

    def trained(
        self, layers: Sequence[Split], find: Callable[[Sequence[Split]], Sequence[FoundLayer]]
    ) -> Self:
        """Return the control with a model for each of these layers, found or trained.

        Args:
            layers: of the trained network; controls have no weights and are left out.
            find: finds or trains the models of layers.
        """
        if self.denoiser is None:
            return self
        names = [split.layer for split in layers if not split.is_control]
        found = find([Split(self.denoiser, name, allow_bypass=True) for name in names])
        models = {name: one.model for name, one in zip(names, found, strict=True) if one.model is not None}
        return replace(self, models=models)

    def measure(
        self,
        own: ScaledLayer,
        x: Tensor,
        certified: Sequence[Certified],
        f: LoadedDenoiser,
        *,
        samples: int,
        seed: int,
        region: Region | None = None,
    ) -> tuple[dict[str, Any], RandomWeights | None]:
        """Return the figures by their keys, and the certified spreads with random and with trained weights.

        What the trained layer's samples were refined from is refined here for both, in a window of 64 x 64 pixels: with random
        weights refinement takes long. Epsilon is chosen by the same rule from each layer's own s_Phi and eta. There are no
        spreads where fewer than two samples of an image are certified.

        Args:
            own: the trained layer.
            x: the images, `(B, 1, H, W)`, HU.
            certified: the trained layer's refined samples of each image; empty where nothing was refined.
            f: the trained denoiser; whose change of output is reported.
            samples: N; a model that is trained for the random layer draws at most 50.
            seed: of the analysis.
            region: decides where the window is, and which pixels the spread of the model's draws counts.
        """
        if self.denoiser is None:
            return {"unavailable": self.why_not}, None
        split = Split(self.denoiser, own.split.layer, allow_bypass=True)
        model = self.models.get(own.split.layer)
        found: dict[str, Any] = {}
        if model is not None:
            found = {"noise_distance": model.meta["eta"]}
            found |= _draw(model, x, own.pixel_scale, samples=samples, seed=seed, region=region)
        if not certified:
            reason = {} if found else {"unavailable": "it needs refined samples, and nothing was refined"}
            return found | reason, None
        # Of patches of the window's size: distances of activations depend little on it, and the cost in proportion.
        scale, eta = layer_scales(split, self.sampler, pairs=PAIRS, seed=0, device=x.device)
        found = {"noise_distance": eta, **found}
        if not eta > 0:
            return {
                **found,
                "unavailable": "with randomised weights, the layer gives the same z for all images",
            }, None
        other = ScaledLayer.of(split, scale, eta, own.pixel_scale)
        window = _window(x.shape[-2:], region)
        try:
            hard = not _converges(
                split, certified[0].proposals[:1][window].to(x), x[:1][window], scale * other.epsilon
            )
        except SplitError:
            return {**found, "unavailable": "no gradient of this layer reaches the image"}, None
        if hard:
            return {**found, "unavailable": f"a proposal does not reach epsilon in {TRIAL_STEPS} steps"}, None
        random, trained = [], []
        for image, one in enumerate(certified):
            this = x[image : image + 1][window]
            proposals = one.proposals[:SAMPLES][window].to(x)
            f_this = f(this)
            both = [refine_proposals(proposals, layer.at(this, f_this, f)) for layer in (other, own)]
            if both[0] is None or both[1] is None:
                return {**found, "unavailable": "no gradient of this layer reaches the image"}, None
            random.append(both[0])
            trained.append(both[1])
        figures, spreads = _certified(random, trained, own.pixel_scale, seed)
        return {**found, "certified": figures}, spreads


def _converges(split: Split, proposal: Tensor, x: Tensor, epsilon: float) -> bool:
    """Say whether one proposal is refined in few steps: with random weights a deep layer can take minutes in vain."""
    refined = refine(
        split.phi,
        split.phi_grad,
        proposal,
        split.phi(x),
        epsilon,
        steps_at_most=TRIAL_STEPS,
        products_at_most=TRIAL_PRODUCTS,
    )
    return bool(refined.certificates.holds.all())


def _window(size: Sequence[int], region: Region | None) -> tuple[EllipsisType, slice, slice]:
    """Return the rows and columns of the window: around the middle of the region, or of the image."""
    box = (slice(0, size[0]), slice(0, size[1])) if region is None else region.box
    starts = [
        min(max(0, (part.start + part.stop - WINDOW) // 2), max(0, length - WINDOW))
        for part, length in zip(box, size, strict=True)
    ]
    rows, columns = (slice(start, start + WINDOW) for start in starts)
    return ..., rows, columns


def _certified(
    random: Sequence[Certified], trained: Sequence[Certified], pixel_scale: float, seed: int
) -> tuple[dict[str, Any], RandomWeights | None]:
    count = min(len(one.samples) for one in random)
    figures: dict[str, Any] = {
        "count": count,
        "refined": len(random[0].images),
        "epsilon": random[0].certificates.epsilon,
        "fiber_error_before": root_mean_square([one.certificates.before for one in random], seed=seed),
    }
    count = min(len(one.samples) for one in trained)
    figures["trained_count"] = count
    if min(figures["count"], count) < 2:
        return figures, None
    spread = sample_spread([one.samples for one in random], seed=seed)
    beside = sample_spread([one.samples for one in trained], seed=seed)
    allowed = allowed_spread(trained[0].certificates.epsilon, pixel_scale, count)
    errors = [one.f_error[one.certificates.holds] for one in random]
    figures["spread_hu"] = spread
    figures["trained_spread_hu"] = beside
    figures["trained_spread_epsilon_hu"] = allowed
    figures["f_error_hu"] = root_mean_square(errors, seed=seed)
    return figures, RandomWeights(spread, beside, allowed)


def _draw(
    model: SampleModel, x: Tensor, pixel_scale: float, *, samples: int, seed: int, region: Region | None
) -> dict[str, Any]:
    """Return spread, fiber error and likelihood of the samples of a random layer's own model."""
    drawn = []
    for image in range(len(x)):
        this = x[image : image + 1]
        target = ScaledLayer.of(model.split, model.meta["scale"], model.meta["eta"], pixel_scale).at(this)
        count = min(samples, CONTROL_SAMPLES)
        drawn.append(
            draw(model.prepare(target.z, target.size), target, samples=count, seed=seed, image=image)
        )
    spread = sample_spread([one.stack for one in drawn], seed=seed, region=region)
    return {
        "spread_hu": spread,
        "fiber_error": root_mean_square([one.fiber_error for one in drawn], seed=seed),
        "nll": bootstrap(model.nll_rows, groups=model.patients.tolist(), seed=seed),
    }
