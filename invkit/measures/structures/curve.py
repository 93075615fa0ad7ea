"""What hides from a layer at every mark of the tolerance: noise and discs, beside what hides from the image itself."""

__all__ = ["CURVE_MARKS", "CURVE_RADII", "CurvePoint", "measure_curve"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from invkit.measures.structures.hidden import largest_unseen
from invkit.measures.structures.inserted import CONTRAST
from invkit.measures.structures.plan import Part, planned
from invkit.measures.structures.shapes import DISCS, Shape
from invkit.posterior.draws import Posterior
from invkit.posterior.hidden import hidden_noise
from invkit.statistics.intervals import Interval, bootstrap
from invkit.tolerance.layer import TolerancedLayer

CURVE_MARKS = ("bfloat16", "tenth_of_repeat", "repeat")
"""Marks at which it is measured besides the headline's. What float32 rounds is so little that nothing would converge."""
DRAWS = 1  # for each image: the spread is over pixels as well
CURVE_RADII = (2.0, 8.0)  # pixels


@dataclass(frozen=True)
class CurvePoint:
    """What hides at one tolerance.

    Args:
        mark: its name.
        tolerance: in repeat scans, the mean over images.
        noise: noise that hides from the layer, and from the image itself, HU; `None` where the interior is too small, or
            nothing converged.
        discs: by radius in pixels, contrast of a disc that hides from the layer and from the image itself, HU.
    """

    mark: str
    tolerance: float
    noise: tuple[Interval, Interval] | None
    discs: Mapping[float, tuple[Interval, Interval]]

    def figures(self) -> Mapping[str, Any]:
        """Return the figures by their keys."""
        ours, image = self.noise or (None, None)
        return {
            "mark": self.mark,
            "tolerance": self.tolerance,
            "hidden_hu": ours,
            "identity_hidden_hu": image,
            "discs": [
                {"radius_px": radius, "hidden_hu": hidden, "identity_hidden_hu": image}
                for radius, (hidden, image) in self.discs.items()
            ],
        }


@torch.no_grad()
def measure_curve(
    layers: Sequence[TolerancedLayer], identities: Sequence[TolerancedLayer], *, seed: int, drawn: bool = True
) -> tuple[CurvePoint, ...]:
    """Return what hides at each mark that all images have but that of the headline, the smallest tolerance first.

    Args:
        layers: the layer at each image.
        identities: the identity at each image.
        seed: of draws and places, which are the same at every mark.
        drawn: whether noise is drawn.
    """
    marks = [
        name
        for name in CURVE_MARKS
        if all(name in one.marks.values and name != one.marks.at for one in layers)
    ]
    points = []
    for mark in marks:
        here = [layer.at(layer.marks.values[mark]) for layer in layers]
        same = [one.beside(layer) for one, layer in zip(identities, here, strict=True)]
        parts, _ = planned(here, identities, seed)
        discs = {
            shape.radius: (
                _hidden(parts, shape, [part.layer for part in parts], seed),
                _hidden(parts, shape, [part.identity for part in parts], seed),
            )
            for shape in DISCS
            if shape.radius in CURVE_RADII and any(shape in part.shapes for part in parts)
        }
        points.append(
            CurvePoint(
                mark,
                sum(layer.tolerance for layer in here) / len(here),
                _noise(here, same, seed) if drawn and all(layer.frame.enough for layer in layers) else None,
                discs,
            )
        )
    return tuple(sorted(points, key=lambda point: point.tolerance))


def _hidden(parts: Sequence[Part], shape: Shape, layers: Sequence[TolerancedLayer], seed: int) -> Interval:
    """Return the contrast of a disc that hides from the layer that each part is given, over places and images."""
    found = []
    for part, layer in zip(parts, layers, strict=True):
        if shape not in part.shapes:
            continue
        crops = layer.crops(part.centres)
        size = (crops.images.shape[-2], crops.images.shape[-1])
        structures = CONTRAST * crops.covariance.blurred(shape.at(crops.centres, size).to(crops.images))
        found.append(CONTRAST * largest_unseen(layer, crops, structures))
    return bootstrap(torch.cat(found), seed=seed)


def _noise(
    layers: Sequence[TolerancedLayer], same: Sequence[TolerancedLayer], seed: int
) -> tuple[Interval, Interval] | None:
    found: list[Interval] = []
    for each in (layers, same):
        squares: list[Tensor] = []
        for image, layer in enumerate(each):
            draws = Posterior.of(layer).draw(DRAWS, seed=seed, stream=f"posterior {image}")
            if not draws.converged:
                return None
            squares.append((draws.first - layer.x)[(..., *layer.frame.interior)].square())
        found.append(hidden_noise(squares, seed))
    return found[0], found[1]
