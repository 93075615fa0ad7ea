"""The same network with redrawn weights: how much of what is found needs no training to be ignored."""

__all__ = ["WeightRandomisation"]

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from torch import Tensor

from invkit.denoisers.loaded import LoadedDenoiser
from invkit.errors import InvkitError, SplitError
from invkit.fiber.tangent import Tangent
from invkit.images.region import Region
from invkit.measures.comparison import CONTROL_SAMPLES
from invkit.measures.redrawn import redrawn
from invkit.posterior.draws import Posterior
from invkit.posterior.hidden import hidden_noise
from invkit.samplers.family import FoundLayer
from invkit.sampling.base import SampleModel
from invkit.sampling.draw import draw
from invkit.sampling.layer import ScaledLayer
from invkit.sampling.spread import root_mean_square, sample_spread
from invkit.split.split import Split
from invkit.statistics.intervals import bootstrap, predicted
from invkit.tolerance.layer import TolerancedLayer
from invkit.tolerance.unit import unit_of
from invkit.tolerance.windows import Windows
from invkit.training.seeds import derive_seed, generator
from invkit.verdict.measures import RandomWeights

WINDOW = 64  # pixels a side
DRAWS = 6  # of each image and layer
REDRAWS = 6  # of the weights, with one draw each
ENOUGH = 4  # redraws that converge
UNTRAINED = ("", "not stated")


@dataclass(frozen=True)
class WeightRandomisation:
    """Layers of the network with redrawn weights, measured beside its own ones.

    What these layers hide, the architecture hides; the network's own weights have a part only in what goes beyond it.

    Args:
        own: the network itself.
        denoiser: the network with new weights; `None` where there is none.
        why_not: why there is none.
        seed: of the weights.
        models: trained cINNs of its layers, by the layer's name; empty where none was asked for.
    """

    own: LoadedDenoiser
    denoiser: LoadedDenoiser | None
    why_not: str
    seed: int = 0
    models: Mapping[str, SampleModel] = field(default_factory=dict)

    @classmethod
    def of(cls, denoiser: LoadedDenoiser, *, seed: int = 0) -> Self:
        """Return the control of a denoiser; one that says why there is none where its weights cannot be redrawn.

        Args:
            denoiser: f.
            seed: of the weights.
        """
        try:
            return cls(denoiser, redrawn(denoiser, seed=seed), "", seed)
        except InvkitError as error:
            return cls(denoiser, None, str(error), seed)

    @property
    def was_trained(self) -> bool:
        """Whether anything says that the network was trained: its weights are a plugin's, which states on what."""
        stated = {weights.tag: weights.trained_on for weights in self.own.spec.weights}
        return stated.get(self.own.weights_tag, "") not in UNTRAINED

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
        """Return how much noise hides from the layer with random weights, with its own ones, and from the image itself.

        All three are of a window of 64 x 64 pixels and at one tolerance, that of the layer itself, in repeat scans of each. Weights
        are redrawn several times, and the interval is that in which another redraw lies. With random weights a deep layer can be so
        nearly singular that nothing converges; where that is so of most redraws, the control says so.

        Args:
            layers: the layer itself at each image.
            identity: the `input` control.
            seed: of the analysis.
        """
        if self.denoiser is None:
            return {"unavailable": self.why_not}, None
        if not all(layer.frame.enough for layer in layers):
            return {"unavailable": "what padding does not reach is too small for a spread"}, None
        windows = [_cut(layer) for layer in layers]
        own = layers[0].split
        try:
            random: list[float] = []
            for number in range(REDRAWS):
                one = self._redraw(number, own, windows, seed)
                random += [] if one is None else [one]
                if len(random) + REDRAWS - 1 - number < ENOUGH:
                    return {
                        "unavailable": "with randomised weights, the layer is too nearly singular to draw for"
                    }, None
            of_own, of_image = (
                hidden_noise(
                    [_drawn(split, here, DRAWS, seed, image)[0] for image, here in enumerate(windows)], seed
                )
                for split in (own, identity)
            )
        except SplitError:
            return {"unavailable": "no gradient of this layer reaches the image"}, None
        found = RandomWeights(predicted(random), of_own, of_image, self.was_trained)
        return {**found.figures(), "redraws": len(random)}, found

    def _redraw(self, number: int, own: Split, windows: Sequence[TolerancedLayer], seed: int) -> float | None:
        """Return the noise that hides with one set of new weights, HU; `None` where that did not converge."""
        assert self.denoiser is not None
        denoiser = self.denoiser if number == 0 else redrawn(self.own, seed=self.seed, number=number)
        split = Split(denoiser, own.layer)
        squares = []
        for image, here in enumerate(windows):
            drawn, converged = _drawn(split, here, 1, seed, image, number)
            if not converged:
                return None
            squares.append(drawn)
        return hidden_noise(squares, seed).value

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


def _drawn(
    split: Split, here: TolerancedLayer, count: int, seed: int, image: int, number: int = 0
) -> tuple[Tensor, bool]:
    """Return squared differences from x of draws for a layer at an image, tolerance and frame, HU^2, and whether they converged.

    The layer has its own S.
    """
    path = (image, number) if number else (image,)
    numbers = generator(derive_seed(seed, "random weights", *path), "tolerance")
    unit = unit_of(split, here.f_x, lambda many: here.covariance.draws(many, numbers))
    at = replace(here, split=split, windows=Windows.of(split, here.x, unit), tangent=Tangent(split.phi_grad))
    if split.is_control:
        at = at.beside(here)
    draws = Posterior.of(at).draw(
        count, seed=seed, stream=f"random weights {' '.join(str(part) for part in path)}"
    )
    return (draws.first - at.x)[(..., *at.frame.interior)].square(), draws.converged


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
