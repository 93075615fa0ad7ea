"""Discs at places of the images: how much contrast f keeps, what an observer of the layer detects, and what hides from it."""

__all__ = ["CONTRAST", "RADII", "DiscRow", "measure_discs"]

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from invkit.denoisers.loaded import LoadedDenoiser
from invkit.images.disc import disc, disc_places
from invkit.measures.structures.hidden import hidden_alone, hidden_with_companion
from invkit.posterior.draws import sigma_for
from invkit.posterior.observer import detectability
from invkit.posterior.whitened import Whitened
from invkit.statistics.intervals import Interval, bootstrap
from invkit.tolerance.layer import Crops, TolerancedLayer
from invkit.training.seeds import derive_seed

RADII = (1.0, 2.0, 4.0, 8.0)  # pixels
CONTRAST = 10.0  # HU
PLACES = 4  # in every image


@dataclass(frozen=True)
class DiscRow:
    """Discs of one size; intervals are over places and images.

    Args:
        radius: pixels.
        spacing: mm per pixel; `None` where it is not known.
        places: how many.
        values: by name: `contrast_kept`, contrast in f(x + d) - f(x) over that in d, as means over the disc; `detectability_kept`,
            d'_l / d'_x of the ideal linear observers, and `detectability_lost`, 1 minus it, which tells more where nearly all
            is kept; `hidden_hu`, the strongest disc that the layer does not see at the tolerance, and `hidden_companion_hu`,
            the same with the most helpful noise beside it. The last four again for the identity at the same tolerance.
        converged: whether the detectability's linear systems were solved; else it is too large.
        tissue: where the discs lie.
    """

    radius: float
    spacing: float | None
    places: int
    values: Mapping[str, Interval]
    converged: bool
    tissue: str = "soft tissue"

    def figures(self) -> Mapping[str, Any]:
        """Return one row of `structures`."""
        return {
            "kind": "disc",
            "radius_px": self.radius,
            "radius_mm": None if self.spacing is None else self.radius * self.spacing,
            "contrast_hu": CONTRAST,
            "tissue": self.tissue,
            "places": self.places,
            "converged": self.converged,
            **self.values,
        }


@torch.no_grad()
def measure_discs(
    layers: Sequence[TolerancedLayer],
    identities: Sequence[TolerancedLayer],
    *,
    spacing: float | None,
    seed: int,
) -> tuple[DiscRow, ...]:
    """Return one row for each size of which there is a place in soft tissue within the frame.

    Args:
        layers: the layer at each image.
        identities: the identity at each image; its own tolerance does not count.
        spacing: mm per pixel.
        seed: of places and intervals.
    """
    rows = []
    for radius in RADII:
        found: dict[str, list[Tensor]] = defaultdict(list)
        converged = True
        for image, (layer, identity) in enumerate(zip(layers, identities, strict=True)):
            centres = disc_places(
                layer.x,
                radius,
                PLACES,
                seed=derive_seed(seed, "discs", image, str(radius)),
                margin=layer.frame.pixels or 0,
            )
            if not len(centres):
                continue
            same = identity.at(layer.tolerance)
            crops, shapes = _cut(layer, centres, radius)
            ours, solved = _seen(layer, crops, shapes)
            theirs, _ = _seen(same, *_cut(same, centres, radius))
            converged = converged and solved
            values = {
                "contrast_kept": _contrast_kept(layer.split.denoiser, crops, shapes),
                **ours,
                **{f"identity_{name}": value for name, value in theirs.items()},
            }
            for name, value in values.items():
                found[name].append(value.cpu().double())
        if found:
            joined = {name: torch.cat(values) for name, values in found.items()}
            rows.append(
                DiscRow(
                    radius,
                    spacing,
                    len(joined["contrast_kept"]),
                    {name: bootstrap(values, seed=seed) for name, values in joined.items()},
                    converged,
                )
            )
    return tuple(rows)


def _cut(layer: TolerancedLayer, centres: Tensor, radius: float) -> tuple[Crops, Tensor]:
    """Return what lies around places, and the discs there, `(N, 1, h, w)`, 0 to 1."""
    crops = layer.crops(centres)
    height, width = crops.images.shape[-2:]
    shapes = [disc(height, width, (float(row), float(column)), radius)[None] for row, column in crops.centres]
    return crops, torch.stack(shapes).to(crops.images.dtype).to(crops.images.device)


def _contrast_kept(f: LoadedDenoiser, crops: Crops, shapes: Tensor) -> Tensor:
    structures = CONTRAST * crops.covariance.blurred(shapes)
    change = f(crops.images + structures) - f(crops.images)
    inside = (shapes > 0.5).to(shapes)
    return (change * inside).flatten(1).sum(1) / (structures * inside).flatten(1).sum(1)


def _seen(layer: TolerancedLayer, crops: Crops, shapes: Tensor) -> tuple[dict[str, Tensor], bool]:
    """Return what an observer of the layer sees of discs, what hides from it, and whether that was solved."""
    structures = CONTRAST * crops.covariance.blurred(shapes)
    sigma = sigma_for(layer.tolerance, layer.windows.elements())
    at = Whitened(layer.split, crops.images, crops.windows.unit, sigma, crops.covariance, layer.tangent)
    seen = detectability(at, structures)
    del at
    alone = hidden_alone(layer.split, crops, structures, layer.tolerance)
    values = {
        "detectability_kept": seen.kept,
        "detectability_lost": seen.lost,
        "hidden_hu": CONTRAST * alone,
        "hidden_companion_hu": CONTRAST * hidden_with_companion(layer, crops, structures, alone),
    }
    return values, seen.converged
