"""What a layer's samples are compared with, on one image: what stands between the same image and any other."""

__all__ = [
    "Comparison",
    "Controls",
    "compare",
    "comparison_figures",
    "reconstruct",
    "reference_images",
    "swapped",
]

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from invkit.data.patches import PatchSampler
from invkit.data.slices import SliceSet
from invkit.fiber.distance import Activation
from invkit.measures.references import Distances, Perturb, References
from invkit.sampling.base import SampleModel
from invkit.sampling.draw import Draws, draw
from invkit.sampling.layer import Target
from invkit.sampling.spread import root_mean_square
from invkit.sampling.tiles import Tiling
from invkit.statistics.intervals import Interval
from invkit.vae.vae import VAE
from invkit.verdict.measures import REFERENCES

CONTROL_SAMPLES = 50
RANDOM_IMAGES = 64


@dataclass(frozen=True)
class Controls:
    """The two models that every layer is measured against: one that knows all of x, one that knows nothing."""

    input: SampleModel
    const: SampleModel


@dataclass(frozen=True)
class Comparison:
    """The distances between one image and others, for one layer.

    Args:
        distances: by their names in `invkit.verdict.measures.REFERENCES`.
        input: draws of the `input` control.
        const: draws of the `const` control.
    """

    distances: dict[str, Distances]
    input: Draws
    const: Draws


def compare(
    draws: Draws,
    target: Target,
    controls: Controls,
    references: References,
    *,
    seed: int,
    image: int,
    samples: int,
    perturb: Perturb | None = None,
) -> Comparison:
    """Measure how far stand-ins for an image are from it.

    Args:
        draws: the layer's.
        target: the image as the layer sees it.
        controls: the two control models.
        references: what stands there without a model.
        seed: of the analysis.
        image: index of the image.
        samples: N; the controls draw at most 50.
        perturb: what is done to samples before Phi sees them, as for the layer.
    """
    count = min(samples, CONTROL_SAMPLES)

    def control(model: SampleModel) -> Draws:
        drawn = model.prepare(model.split.phi(target.x), target.size)
        return draw(drawn, target, samples=count, seed=seed, image=image, perturb=perturb)

    models = {"samples": draws, "input": control(controls.input), "const": control(controls.const)}
    distances = references.distances(draws, target, image, perturb)
    distances |= {name: Distances(drawn.fiber_error, drawn.f_error) for name, drawn in models.items()}
    return Comparison(distances, models["input"], models["const"])


def reference_images(
    slices: SliceSet, size: Sequence[int], *, dose: float, seed: int
) -> tuple[Tensor, tuple[int, ...]]:
    """Return reference images, others of held-out patients at low dose, and the patient of each.

    They have the size of those under test, `(64, 1, H, W)`, HU; of large ones there are fewer.
    """
    side = max(size)
    count = max(8, min(RANDOM_IMAGES, RANDOM_IMAGES * 128 * 128 // (side * side)))
    drawn = PatchSampler(slices.part("test"), side, dose=dose, seed=seed).batch(0, count)
    return drawn.x[..., : size[0], : size[1]], tuple(drawn.patient.tolist())


def reconstruct(vae: VAE, x: Tensor) -> Tensor:
    """Return D(E(x)) of images of any size, tile by tile, HU."""
    tiling = Tiling(x.shape[-2], x.shape[-1], vae.patch)
    with torch.no_grad():
        patches = torch.stack([vae.reconstruct(tiles) for tiles in tiling.cut(x)])
    return tiling.blend(patches)


def swapped(
    model: SampleModel, images: Tensor, z: Sequence[Activation], partner_z: Sequence[Activation]
) -> Tensor:
    """Return D(t^-1(v | z)) with v = t(E(.) | Phi(x)) of one image and z of its partner.

    What comes out should have the partner's structure as far as the layer sees it, and this image's noise.

    Args:
        model: the layer's cINN.
        images: of the domain that the model samples, `(B, 1, H, W)`, HU: x for low dose, y for high dose.
        z: activations of the low-dose images, one entry per image.
        partner_z: activations of the partners.
    """
    swaps = [model.swap(one[None], own, other) for one, own, other in zip(images, z, partner_z, strict=True)]
    return torch.cat(swaps)


def comparison_figures(
    distances: Sequence[dict[str, Distances]], eta: float, references: References, *, seed: int
) -> tuple[dict[str, Interval], dict[str, Any]]:
    """Return the fiber errors of all of them, and the same in other units.

    Args:
        distances: of each image, by their names.
        eta: of the layer, in units of its s_Phi.
        references: what they were measured with.
        seed: of the bootstrap.
    """
    names = [name for name in REFERENCES if name in distances[0]]

    def mean(name: str, of: Callable[[Distances], Tensor]) -> Interval:
        return root_mean_square(
            [of(found[name]) for found in distances], seed=seed, patients=distances[0][name].patients
        )

    errors = {name: mean(name, lambda one: one.fiber_error) for name in names}
    changes = {name: mean(name, lambda one: one.f_error) for name in names}

    def over(value: Interval) -> Interval:
        return Interval(value.value / eta, value.low / eta, value.high / eta)

    return errors, {
        "eta": {name: over(value) for name, value in errors.items()} if eta > 0 else None,
        "f_error_hu": changes,
        "bank": len(references.bank),
        "compared": references.compared,
    }
