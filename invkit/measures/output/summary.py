"""What becomes of structures and of noise at the output: sharpness, noise and detectability before and after."""

__all__ = ["ContrastDetected", "Output", "measure_output"]

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from invkit.measures.output.nps import NoiseSpectrum, band_middles, noise_spectrum
from invkit.measures.output.observer import Detected, Observed, observe
from invkit.measures.output.scans import CONTRASTS, GROUP, Scanned, contrast_for, pixels_of
from invkit.measures.output.spots import RADII, spots_of
from invkit.measures.output.ttf import FREQUENCIES, TaskTransfer, task_transfer
from invkit.tolerance.layer import TolerancedLayer
from invkit.training.seeds import derive_seed

PLACES = 16  # over all images, but at least 2 of each
IMAGES = 4  # that are measured, at most
PIXELS = 3e6  # that f is computed for
GROUPS = (4, 32)  # of scans of each place, at least and at most


@dataclass(frozen=True)
class ContrastDetected:
    """Discs of one size.

    Args:
        radius: pixels.
        spacing: mm per pixel; `None` where it is not known.
        contrast: HU, at which the best observer with these channels has d' = 2 in the image.
        detected: what a trained one detects.
    """

    radius: float
    spacing: float | None
    contrast: float
    detected: Detected

    def figures(self) -> Mapping[str, Any]:
        """Return one row of `observer`."""
        return {
            "radius_px": self.radius,
            "radius_mm": None if self.spacing is None else self.radius * self.spacing,
            "contrast_hu": self.contrast,
            "in_detectability": Detected.interval(self.detected.image),
            "out_detectability": Detected.interval(self.detected.output),
            "detectability_kept": Detected.interval(self.detected.kept),
        }


@dataclass(frozen=True)
class Output:
    """The figures, over all images.

    Args:
        before: noise of the image.
        after: what f leaves of it.
        transfers: of edges, by name.
        rows: of what an observer detects.
        tissue: where all this was measured.
        places: how many.
        scans: of each place.
        spacing: mm per pixel; `None` where it is not known.
    """

    before: NoiseSpectrum
    after: NoiseSpectrum
    transfers: Mapping[str, TaskTransfer]
    rows: tuple[ContrastDetected, ...]
    tissue: str
    places: int
    scans: int
    spacing: float | None

    def figures(self) -> Mapping[str, Any]:
        """Return the figures of `output`."""
        kept = np.mean([row.detected.kept for row in self.rows], axis=0)
        return {
            "tissue": self.tissue,
            "places": self.places,
            "scans": self.scans,
            "spacing_mm": self.spacing,
            "detectability_kept": Detected.interval(kept),
            "observer": [row.figures() for row in self.rows],
            "noise": {
                **{f"in_{name}": value for name, value in self.before.figures().items()},
                **{f"out_{name}": value for name, value in self.after.figures().items()},
                "frequencies_per_px": band_middles().tolist(),
            },
            **{name: transfer.figures() for name, transfer in self.transfers.items()},
            "frequencies_per_px": FREQUENCIES.tolist(),
        }


@torch.no_grad()
def measure_output(layers: Sequence[TolerancedLayer], *, spacing: float | None, seed: int) -> Output | None:
    """Return what becomes of structures and of noise at the output; `None` where no tissue has a place for a disc within the frame.

    Scans are f(x) plus noise of the image's dose: all that is measured shares them.

    Args:
        layers: the identity, or any layer, at each image.
        spacing: mm per pixel.
        seed: of every draw.
    """
    layers = layers[:IMAGES]
    spots = spots_of(layers, max(2, math.ceil(PLACES / len(layers))), seed=seed)
    if not spots:
        return None
    places = sum(len(one.images) for one in spots)
    radii = [radius for radius in RADII if radius <= spots[0].radius]
    groups = int(min(max(PIXELS // pixels_of(spots, radii), GROUPS[0]), GROUPS[1]))
    contrasts = {radius: contrast_for(spots, radius) for radius in radii}
    found = [Scanned(one, contrasts, groups, derive_seed(seed, "output", k)) for k, one in enumerate(spots)]
    return Output(
        before=noise_spectrum([one.noise for one in found], seed=seed),
        after=noise_spectrum([one.left for one in found], seed=seed),
        transfers={name: task_transfer([one.edges[name] for one in found], seed=seed) for name in CONTRASTS},
        rows=tuple(
            ContrastDetected(
                radius,
                spacing,
                contrasts[radius],
                observe(
                    *(
                        _joined([one.observed[where][radius] for one in found])
                        for where in ("image", "output")
                    )
                ),
            )
            for radius in radii
        ),
        tissue=spots[0].tissue.name,
        places=places,
        scans=groups * GROUP,
        spacing=spacing,
    )


def _joined(observed: Sequence[Observed]) -> Observed:
    """Return what was seen at the places of all images."""
    return Observed(*(torch.cat([getattr(one, name) for one in observed]) for name in ("absent", "present")))
