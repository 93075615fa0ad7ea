"""The lesion test: which contrast a disc needs before a layer sees it."""

__all__ = ["DiscContrast", "DiscSearch", "LesionCurve", "disc_contrasts", "lesion_curves"]

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invkit.errors import InputError, UsageError
from invkit.fiber.distance import Activation, activation_distance
from invkit.images.disc import disc, disc_places
from invkit.statistics.intervals import Interval, as_vector, resampling_weights

DOUBLINGS = 12  # contrasts that are tried, from largest / 2 ** 11 to largest
DRAWS = 1000  # of the bootstrap
HALVINGS = 8  # of the interval in which the threshold is crossed


@dataclass(frozen=True)
class DiscContrast:
    """The contrast at which each disc crosses the threshold.

    Args:
        contrast: shape `(P,)`, HU, float64; `largest` where even that does not cross it.
        unseen: shape `(P,)`: where the largest contrast stays below the threshold.
        monotone: shape `(P,)`: where the layer's change never falls as the contrast grows, over all that were tried.
    """

    contrast: Tensor
    unseen: Tensor
    monotone: Tensor


@dataclass(frozen=True)
class LesionCurve:
    """c*(size): contrasts below which the layer's change stays below the threshold.

    Args:
        radius: in pixels.
        radius_mm: the same in mm, not a number where the pixels' size is not known.
        contrast: median over places and its interval over patients, HU; never above `largest`.
        unseen: share of places where a disc of the largest contrast is not seen; from 0.5 on, c* is at least `largest`.
        monotone: share of places where the layer's change grows with the contrast.
        largest: largest contrast tried, HU, with its sign.
        places: number of discs for each size.
    """

    radius: tuple[float, ...]
    radius_mm: tuple[float, ...]
    contrast: tuple[Interval, ...]
    unseen: tuple[float, ...]
    monotone: tuple[float, ...]
    largest: float
    places: int

    def figures(self) -> dict[str, Any]:
        """Return the figures by their keys, one row per size."""
        rows = [
            {
                "radius_px": self.radius[index],
                "radius_mm": self.radius_mm[index] if np.isfinite(self.radius_mm[index]) else None,
                "contrast_hu": self.contrast[index],
                "unseen": self.unseen[index],
                "monotone": self.monotone[index],
            }
            for index in range(len(self.radius))
        ]
        return {"sizes": rows, "largest_hu": self.largest, "places": self.places}


@dataclass(frozen=True)
class DiscSearch:
    """Which discs are put into images.

    Args:
        places: discs for each image and size.
        largest: largest contrast to try, HU; below 0 for discs that are darker.
        halvings: as in `disc_contrasts`.
    """

    places: int = 8
    largest: float = 1000.0
    halvings: int = HALVINGS


@torch.no_grad()
def disc_contrasts(
    phi: Callable[[Tensor], Activation],
    images: Tensor,
    centres: Sequence[tuple[float, float]] | Tensor,
    radius: float,
    thresholds: Mapping[str, float | Tensor],
    *,
    largest: float = 1000.0,
    halvings: int = HALVINGS,
) -> dict[str, DiscContrast]:
    """Find the smallest contrast c at which |Phi(x + c disc) - Phi(x)| crosses each threshold, for each disc.

    Twelve contrasts that all thresholds share, each twice the one before, find the first interval in which it is crossed and
    whether the change grows all along; eight halvings and a linear interpolation then find c* to better than 1 % (of the smallest
    of the twelve, where it is below that). For a piecewise linear network the change of a small disc is nearly proportional to c.

    Args:
        phi: the layer, `(P, 1, H, W)` in HU to its activation (`Split.phi`).
        images: `(P, 1, H, W)`, HU, or `(1, 1, H, W)` for all.
        centres: row and column of each disc, P of them.
        radius: pixels.
        thresholds: by name, root mean square over all elements of the activation: epsilon of a certificate, or eta, the distance
            between two noise realisations; one, or one a disc, `(P,)`.
        largest: largest contrast to try, HU; below 0 for discs that are darker.
        halvings: fewer cost less; with 2 of them the interpolation errs by a few percent at most where the change bends.

    Raises:
        InputError: numbers that do not match, or a threshold that is not positive.
        UsageError: a radius that is not positive, or a contrast of 0.
    """
    if largest == 0:
        raise UsageError("the largest contrast must not be 0; give it in HU, below 0 for darker discs")
    places = [(float(row), float(column)) for row, column in centres]
    if not places or len(images) not in (1, len(places)):
        raise InputError(
            f"give one image per disc, or one for all; got {len(images)} for {len(places)} discs"
        )
    limits = {
        name: torch.as_tensor(threshold, dtype=torch.float64).reshape(-1).cpu().expand(len(places))
        for name, threshold in thresholds.items()
    }
    if not all(bool((limit > 0).all()) for limit in limits.values()):
        raise InputError("the threshold must be positive: the distance that counts as not seen")
    covered = torch.stack([disc(images.shape[-2], images.shape[-1], place, radius) for place in places])
    discs = _Discs(phi, images, covered[:, None].to(images), largest)
    return {name: _crossing(discs, limit, halvings) for name, limit in limits.items()}


@dataclass(frozen=True)
class _Discs:
    """Discs in images, and how much the layer changes with their contrast.

    Args:
        phi: the layer.
        images: `(P, 1, H, W)`, HU, or `(1, 1, H, W)` for all.
        covered: the discs, `(P, 1, H, W)`, at a contrast of 1 HU.
        largest: largest contrast to try, HU, with its sign.
    """

    phi: Callable[[Tensor], Activation]
    images: Tensor
    covered: Tensor
    largest: float

    @cached_property
    def reference(self) -> Activation:
        """The activation without discs."""
        return self.phi(self.images)

    @property
    def grid(self) -> Tensor:
        """The contrasts that are tried for every threshold, HU, `(12,)`."""
        return self.largest * 2.0 ** torch.arange(1 - DOUBLINGS, 1, dtype=torch.float64)

    @cached_property
    def tried(self) -> Tensor:
        """The change at these contrasts, `(12, P)`."""
        return torch.stack([self.change(contrast.expand(len(self.covered))) for contrast in self.grid])

    def change(self, contrast: Tensor) -> Tensor:
        """Return the change at one contrast a disc, `(P,)`."""
        shifted = self.images + self.covered * contrast.to(self.images).view(-1, 1, 1, 1)
        return activation_distance(self.phi(shifted), self.reference).cpu()


def _crossing(discs: _Discs, limit: Tensor, halvings: int) -> DiscContrast:
    """Return where the change crosses a threshold, `(P,)`."""
    grid, tried = discs.grid, discs.tried
    seen = tried > limit
    unseen = ~seen.any(0)
    first = torch.where(unseen, DOUBLINGS - 1, seen.int().argmax(0))
    # Rounding of float32 is not a fall.
    monotone = (tried.diff(dim=0) >= -1e-5 * tried[:-1]).all(0)
    rows = torch.arange(len(discs.covered))
    with_zero = torch.cat([torch.zeros(1, dtype=torch.float64), grid])
    low, high = with_zero[first], grid[first]
    below = torch.where(first > 0, tried[(first - 1).clamp_min(0), rows], 0.0)
    above = tried[first, rows]
    for _ in range(halvings):
        middle = (low + high) / 2
        found = discs.change(middle)
        over = found > limit
        low, below = torch.where(over, low, middle), torch.where(over, below, found)
        high, above = torch.where(over, middle, high), torch.where(over, found, above)
    part = ((limit - below) / (above - below).clamp_min(1e-300)).clamp(0, 1)
    contrast = torch.where(unseen, discs.largest, low + part * (high - low))
    return DiscContrast(contrast, unseen, monotone)


def lesion_curves(
    phi: Callable[[Tensor], Activation],
    images: Sequence[Tensor],
    thresholds: Mapping[str, Sequence[float]],
    radii: Sequence[float],
    groups: Sequence[Any] | None = None,
    *,
    search: DiscSearch | None = None,
    spacing: float | None = None,
    seed: int = 0,
) -> dict[str, LesionCurve]:
    """Return c*(size): the contrast of discs below which the layer's change is below each threshold.

    That a network can miss a small structure put into its image is from Antun et al. (PNAS 117(48), 2020). Discs are put at random
    places in soft tissue. With epsilon as the threshold, x with a disc below c* lies in the
    epsilon-fiber of x by definition, so no certified sample can tell whether it is there. With eta, such a disc changes the
    layer less than other noise would. The distance is over all elements: noise changes all of them and a small disc few,
    so below c* for eta a disc is not "invisible to an observer" who knows where to look.

    Args:
        phi: the layer, `(P, 1, H, W)` in HU to its activation (`Split.phi`).
        images: each `(1, 1, H, W)`, HU.
        thresholds: by name, one per image, in units of the activation.
        radii: pixels.
        groups: labels of the images (patients).
        search: which discs are tried.
        spacing: mm per pixel.
        seed: of places and resampling.

    Raises:
        InputError: no image has soft tissue for a disc of some size, or numbers do not match.
    """
    for limits in thresholds.values():
        if len(images) != len(limits) or not images or (groups is not None and len(groups) != len(images)):
            raise InputError(
                f"every image needs a threshold and, if given, a label; got {len(images)} images, "
                f"{len(limits)} thresholds"
            )
    search = search or DiscSearch()
    labels = list(range(len(images))) if groups is None else list(groups)
    found: dict[str, list[list[DiscContrast]]] = {name: [] for name in thresholds}
    owners: list[list[Any]] = []
    for size, radius in enumerate(radii):
        for of_size in found.values():
            of_size.append([])
        owners.append([])
        for index, image in enumerate(images):
            centres = disc_places(image, radius, search.places, seed=seed + 7919 * size + index)
            if not len(centres):
                continue
            contrasts = disc_contrasts(
                phi,
                image,
                centres,
                radius,
                {name: limits[index] for name, limits in thresholds.items()},
                largest=search.largest,
                halvings=search.halvings,
            )
            for name, contrast in contrasts.items():
                found[name][-1].append(contrast)
            owners[-1] += [labels[index]] * len(centres)
        if not owners[-1]:
            raise InputError(
                f"no image has soft tissue for a disc of radius {radius:g} pixels; give larger images or smaller discs"
            )
    millimetres = tuple(radius * (np.nan if spacing is None else spacing) for radius in radii)
    return {
        name: _curve(of_sizes, owners, seed, tuple(map(float, radii)), millimetres, search)
        for name, of_sizes in found.items()
    }


def _curve(
    found: Sequence[Sequence[DiscContrast]],
    owners: Sequence[Sequence[Any]],
    seed: int,
    radii: tuple[float, ...],
    millimetres: tuple[float, ...],
    search: DiscSearch,
) -> LesionCurve:
    def joined(name: str) -> list[Tensor]:
        return [torch.cat([getattr(one, name) for one in of_size]) for of_size in found]

    medians = [
        _median(contrast.abs(), whose if len(set(whose)) > 1 else None, seed)
        for contrast, whose in zip(joined("contrast"), owners, strict=True)
    ]
    return LesionCurve(
        radii,
        millimetres,
        tuple(medians),
        tuple(float(unseen.double().mean()) for unseen in joined("unseen")),
        tuple(float(monotone.double().mean()) for monotone in joined("monotone")),
        search.largest,
        min(map(len, owners)),
    )


def _median(values: Tensor, owners: Sequence[Any] | None, seed: int) -> Interval:
    """Return the median and its interval, over owners, or over places where there is one owner."""
    vector = as_vector(values)
    weights = resampling_weights(len(vector), owners, seed=seed, draws=DRAWS)
    if weights is None:
        return Interval(float(np.median(vector)))
    order = np.argsort(vector, kind="stable")
    below = weights[:, order].cumsum(axis=1)
    middle = (below >= below[:, -1:] / 2).argmax(axis=1)
    low, high = np.quantile(vector[order][middle], [0.025, 0.975])
    return Interval(float(np.median(vector)), float(low), float(high))
