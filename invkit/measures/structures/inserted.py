"""Structures at places of the images: how much contrast f keeps, what an observer of the layer detects, and what hides from it."""

__all__ = ["CONTRAST", "CONTRASTS", "kept_by_f", "measure_inserted"]

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from invkit.denoisers.loaded import LoadedDenoiser
from invkit.measures.structures.hidden import hidden_with_companion, largest_unseen
from invkit.measures.structures.plan import Breadth, Layers, Part, planned
from invkit.measures.structures.rows import StructureRow
from invkit.measures.structures.shapes import SHAPES, Shape
from invkit.posterior.draws import sigma_for
from invkit.posterior.observer import detectability
from invkit.posterior.whitened import Whitened
from invkit.statistics.intervals import bootstrap
from invkit.tolerance.layer import Crops, TolerancedLayer

CONTRAST = 10.0  # HU, of discs by default, and from which what is hidden is sought
CONTRASTS = (3.0, 10.0, 30.0, 100.0)  # HU


@dataclass
class _Found:
    """What was found of one shape in one tissue, by place.

    Args:
        values: by name, `(N,)` for each image, float64.
        kept: part of the contrast that f keeps, by contrast, likewise.
        converged: whether all linear systems were solved.
    """

    values: dict[str, list[Tensor]] = field(default_factory=lambda: defaultdict(list))
    kept: dict[float, list[Tensor]] = field(default_factory=lambda: defaultdict(list))
    converged: bool = True


@torch.no_grad()
def measure_inserted(
    layers: Layers,
    identities: Layers,
    *,
    spacing: float | None,
    seed: int,
    full: Breadth | None = None,
) -> tuple[StructureRow, ...]:
    """Return a row for each structure of which there is a place within the frame.

    By default these are discs of one contrast in the commonest tissue that has a place.

    Args:
        layers: the layer at each image.
        identities: the identity at each image; its own tolerance does not count.
        spacing: mm per pixel.
        seed: of places and intervals.
        full: for all kinds, contrasts and tissues.
    """
    contrasts = (CONTRAST,) if full is None else CONTRASTS
    discs, others = planned(layers, identities, seed, full)
    found: dict[tuple[str, Shape], _Found] = defaultdict(_Found)
    start = time.process_time()
    for number, part in enumerate([*discs, *others]):
        if number == len(discs) and full is not None:
            each = (time.process_time() - start) / sum(one.cost for one in discs)
            full.say(_cost(others, each))
        _measure(part, contrasts, found)
    return tuple(
        StructureRow(
            shape,
            contrast,
            tissue,
            spacing,
            sum(len(kept) for kept in one.kept[contrast]),
            {
                name: bootstrap(torch.cat(values), seed=seed)
                for name, values in {"contrast_kept": one.kept[contrast], **one.values}.items()
            },
            one.converged,
        )
        for tissue in dict.fromkeys(tissue for tissue, _ in found)
        for shape in SHAPES
        if (one := found.get((tissue, shape))) is not None
        for contrast in contrasts
    )


def _cost(parts: Sequence[Part], each: float) -> str:
    rows = {(part.tissue.name, shape) for part in parts for shape in part.shapes}
    *tissues, last = dict.fromkeys(part.tissue.name for part in parts)
    where = f"{', '.join(tissues)} and {last}" if tissues else last
    seconds = each * sum(part.cost for part in parts)
    length = f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"
    return f"{len(rows)} more structures in {where}: about {length} of processor time"


def _measure(part: Part, contrasts: Sequence[float], found: dict[tuple[str, Shape], _Found]) -> None:
    layer, name = part.layer, part.tissue.name
    crops = layer.crops(part.centres)
    for shape, contrast, kept in kept_by_f(crops, layer.split.denoiser, part.shapes, contrasts):
        found[name, shape].kept[contrast].append(kept)
    for prefix, which in (("", layer), ("identity_", part.identity)):
        for shape, values, converged in _seen(which, which.crops(part.centres), part.shapes):
            one = found[name, shape]
            one.converged = one.converged and (converged or which is part.identity)
            for key, value in values.items():
                one.values[prefix + key].append(value.cpu().double())


def kept_by_f(
    crops: Crops, f: LoadedDenoiser, shapes: Sequence[Shape], contrasts: Sequence[float]
) -> Iterator[tuple[Shape, float, Tensor]]:
    """Yield shape, contrast (HU) and the part of it in f(x + d) - f(x), `(N,)`, float64."""
    f_x = f(crops.images)
    for shape in shapes:
        put = _put(shape, crops)
        structures = crops.covariance.blurred(put)
        for contrast in contrasts:
            change = f(crops.images + contrast * structures) - f_x
            yield shape, contrast, shape.kept(change, contrast * structures, put).cpu().double()


def _put(shape: Shape, crops: Crops) -> Tensor:
    height, width = crops.images.shape[-2:]
    return shape.at(crops.centres, (height, width)).to(crops.images.dtype).to(crops.images.device)


def _seen(
    layer: TolerancedLayer, crops: Crops, shapes: Sequence[Shape]
) -> Iterator[tuple[Shape, dict[str, Tensor], bool]]:
    """Yield what an observer of the layer sees of each shape, what hides from it, and whether that was solved."""
    sigma = sigma_for(layer.tolerance, layer.windows.elements())
    at = Whitened(layer.split, crops.images, crops.windows.unit, sigma, crops.covariance, layer.tangent)
    structures = [CONTRAST * crops.covariance.blurred(_put(shape, crops)) for shape in shapes]
    observed = [detectability(at, d) for d in structures]
    del at  # or the next linearisation would lie beside this one
    for shape, d, seen in zip(shapes, structures, observed, strict=True):
        alone = largest_unseen(layer, crops, d)
        values = {
            "detectability_kept": seen.kept,
            "detectability_lost": seen.lost,
            "hidden_hu": CONTRAST * alone,
            "hidden_companion_hu": CONTRAST * hidden_with_companion(layer, crops, d, alone).contrast,
        }
        yield shape, values, seen.converged
