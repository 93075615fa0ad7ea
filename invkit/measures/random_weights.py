"""The same network with redrawn weights: how much of what is found needs no training to be ignored."""

__all__ = ["WeightRandomisation", "redrawn"]

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from invkit.denoisers.loaded import LoadedDenoiser, load_denoiser
from invkit.errors import InvkitError, SplitError
from invkit.fiber.tangent import Tangent
from invkit.images.region import Region
from invkit.measures.comparison import CONTROL_SAMPLES
from invkit.posterior.draws import Posterior, PosteriorDraws
from invkit.posterior.hidden import hidden_noise
from invkit.samplers.family import FoundLayer
from invkit.sampling.base import SampleModel
from invkit.sampling.draw import draw
from invkit.sampling.layer import ScaledLayer
from invkit.sampling.spread import root_mean_square, sample_spread
from invkit.split.split import Split
from invkit.statistics.intervals import bootstrap
from invkit.tolerance.layer import TolerancedLayer
from invkit.tolerance.unit import unit_of
from invkit.tolerance.windows import Windows
from invkit.training.seeds import derive_seed, generator
from invkit.verdict.measures import RandomWeights

WINDOW = 64  # pixels a side
DRAWS = 6  # of each image and layer

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
    """Layers of the network with redrawn weights, measured beside the trained ones.

    What these layers hide, the architecture hides; training has a part only in what goes beyond it.

    Args:
        denoiser: the network with its new weights; `None` where there is none.
        why_not: why there is none.
        models: trained cINNs of its layers, by the layer's name; empty where none was asked for.
    """

    denoiser: LoadedDenoiser | None
    why_not: str
    models: Mapping[str, SampleModel] = field(default_factory=dict)

    @classmethod
    def of(cls, denoiser: LoadedDenoiser, *, seed: int = 0) -> Self:
        """Return the control of a denoiser; one that says why there is none where its weights cannot be redrawn.

        Args:
            denoiser: f.
            seed: of the weights.
        """
        try:
            return cls(redrawn(denoiser, seed=seed), "")
        except InvkitError as error:
            return cls(None, str(error))

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
        found = find([Split(self.denoiser, name) for name in names])
        models = {name: one.model for name, one in zip(names, found, strict=True) if one.model is not None}
        return replace(self, models=models)

    def hidden(
        self, layers: Sequence[TolerancedLayer], identity: Split, *, seed: int
    ) -> tuple[dict[str, Any], RandomWeights | None]:
        """Return how much noise hides from the layer with random weights, with the trained ones, and from the image itself.

        All three are of a window of 64 x 64 pixels and at one tolerance, that of the trained layer, in repeat scans of each: with
        random weights a deep layer can be so nearly singular that nothing converges, and then the control says so.

        Args:
            layers: the trained layer at each image.
            identity: the `input` control.
            seed: of the analysis.
        """
        if self.denoiser is None:
            return {"unavailable": self.why_not}, None
        own = layers[0].split
        random = Split(self.denoiser, own.layer)
        squares: dict[str, list[Tensor]] = {"trained": [], "image": [], "random": []}
        try:
            for image, layer in enumerate(layers):
                here = _cut(layer)
                for name, split in (("random", random), ("trained", own), ("image", identity)):
                    at = _of(split, here, derive_seed(seed, "random weights", image))
                    draws = Posterior.of(at).draw(DRAWS, seed=seed, stream=f"random weights {image}")
                    if not draws.converged and name == "random":
                        return {
                            "unavailable": "with randomised weights, the layer is too nearly singular to draw for"
                        }, None
                    squares[name].append(_squares(draws, at))
        except SplitError:
            return {"unavailable": "no gradient of this layer reaches the image"}, None
        found = RandomWeights(**{name: hidden_noise(rows, seed) for name, rows in squares.items()})
        return dict(found.figures()), found

    def drawn(
        self,
        layer: str,
        x: Tensor,
        pixel_scale: float,
        *,
        samples: int,
        seed: int,
        region: Region | None = None,
    ) -> dict[str, Any]:
        """Return the figures of samples of the random layer's own model, by their keys; none where there is no such model.

        Args:
            layer: its name.
            x: the images, `(B, 1, H, W)`, HU.
            pixel_scale: s_Phi of the `input` control, HU.
            samples: N; such a model draws at most 50.
            seed: of the analysis.
            region: which pixels the spread counts.
        """
        model = self.models.get(layer)
        if model is None:
            return {}
        return {
            "noise_distance": model.meta["eta"],
            **_draw(model, x, pixel_scale, samples=samples, seed=seed, region=region),
        }


def _cut(layer: TolerancedLayer) -> TolerancedLayer:
    """Return the layer at the middle of what may vary, in a window of 64 x 64 pixels or less."""
    starts = [
        max(0, min((part.start + part.stop - WINDOW) // 2, length - WINDOW))
        for part, length in zip(layer.frame.interior, layer.x.shape[-2:], strict=True)
    ]
    place = slice(starts[0], starts[0] + WINDOW), slice(starts[1], starts[1] + WINDOW)
    x = layer.x[(..., *place)].contiguous()
    size = (x.shape[-2], x.shape[-1])
    return replace(
        layer,
        x=x,
        f_x=layer.split.denoiser(x),
        covariance=layer.covariance.cropped(layer.covariance.deviation[place]),
        frame=replace(layer.frame, size=size, inner=None),
    )


def _of(split: Split, layer: TolerancedLayer, seed: int) -> TolerancedLayer:
    """Return another layer at the same image, tolerance and frame, with its own S."""
    numbers = generator(seed, "tolerance")
    unit = unit_of(split, layer.f_x, lambda count: layer.covariance.draws(count, numbers))
    return replace(
        layer, split=split, windows=Windows.of(split, layer.x, unit), tangent=Tangent(split.phi_grad)
    )


def _squares(draws: PosteriorDraws, layer: TolerancedLayer) -> Tensor:
    return (draws.first - layer.x)[(..., *layer.frame.interior)].square()


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
