"""Structures at places of the images: how much contrast f keeps, what an observer of the layer detects, and what hides from it."""

__all__ = ["CONTRAST", "CONTRASTS", "Part", "measure_inserted", "planned_discs"]

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from invkit.images.tissue import Tissue, by_area, places_for
from invkit.measures.structures.hidden import hidden_alone, hidden_with_companion
from invkit.measures.structures.rows import StructureRow
from invkit.measures.structures.shapes import DISCS, SHAPES, Shape
from invkit.posterior.draws import sigma_for
from invkit.posterior.observer import detectability
from invkit.posterior.whitened import Whitened
from invkit.statistics.intervals import bootstrap
from invkit.tolerance.layer import Crops, TolerancedLayer
from invkit.training.seeds import derive_seed

CONTRAST = 10.0  # HU, of discs by default, and from which what is hidden is sought
CONTRASTS = (3.0, 10.0, 30.0, 100.0)  # HU
PLACES = 4  # in every image
RADII = tuple(shape.radius for shape in DISCS)


@dataclass(frozen=True)
class Part:
    """Structures that share their places in one image: one linearisation serves them all.

    Args:
        image: its index.
        tissue: where the places lie.
        centres: rows and columns, `(N, 2)`.
        shapes: what is put there, one after the other.
    """

    image: int
    tissue: Tissue
    centres: Tensor
    shapes: list[Shape]

    @property
    def cost(self) -> int:
        """How many structures are put in."""
        return len(self.centres) * len(self.shapes)


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
    layers: Sequence[TolerancedLayer],
    identities: Sequence[TolerancedLayer],
    *,
    spacing: float | None,
    seed: int,
    full: bool = False,
    say: Callable[[str], None] | None = None,
) -> tuple[StructureRow, ...]:
    """Return a row for each structure of which there is a place within the frame.

    By default these are discs of one contrast in the commonest tissue that has a place.

    Args:
        layers: the layer at each image.
        identities: the identity at each image; its own tolerance does not count.
        spacing: mm per pixel.
        seed: of places and intervals.
        full: all kinds, contrasts and tissues.
        say: is told what that costs, before it begins: discs in the commonest tissue have shown it by then.
    """
    contrasts = CONTRASTS if full else (CONTRAST,)
    discs, others = _planned(layers, seed, full)
    found: dict[tuple[str, Shape], _Found] = defaultdict(_Found)
    start = time.process_time()
    for number, part in enumerate([*discs, *others]):
        if number == len(discs) and say is not None:
            each = (time.process_time() - start) / sum(one.cost for one in discs)
            say(_cost(others, each))
        layer = layers[part.image]
        same = identities[part.image].at(layer.tolerance)
        _measure(layer, same, part, contrasts, found)
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


def _planned(layers: Sequence[TolerancedLayer], seed: int, full: bool) -> tuple[list[Part], list[Part]]:
    """Return the discs in the commonest tissue that has a place, and all the rest."""
    margins = [layer.frame.pixels or 0 for layer in layers]
    planned: list[tuple[Tissue, list[dict[float, Tensor]]]] = []
    for tissue in by_area([layer.x for layer in layers], max(margins)):
        places = [
            places_for(
                layer.x,
                tissue,
                RADII,
                PLACES,
                seed=derive_seed(seed, "structures", tissue.name, image),
                margin=margin,
            )
            for image, (layer, margin) in enumerate(zip(layers, margins, strict=True))
        ]
        if any(places):
            planned.append((tissue, places))
            if not full:
                break
    if not planned:
        return [], []
    commonest, *elsewhere = planned
    discs = list(_parts(*commonest, DISCS))
    if not full:
        return discs, []
    others = list(_parts(*commonest, [shape for shape in SHAPES if shape not in DISCS]))
    for tissue, places in elsewhere:
        others += _parts(tissue, places, SHAPES)
    return discs, others


def planned_discs(layers: Sequence[TolerancedLayer], seed: int) -> list[Part]:
    """Return the discs of the default: in the commonest tissue that has a place, those of one centre together.

    Args:
        layers: the layer at each image.
        seed: of the places.
    """
    return _planned(layers, seed, full=False)[0]


def _parts(tissue: Tissue, places: Sequence[dict[float, Tensor]], shapes: Sequence[Shape]) -> Iterator[Part]:
    for image, centres in enumerate(places):
        together: dict[tuple[int, ...], list[Shape]] = defaultdict(list)
        for shape in shapes:
            if shape.radius in centres:
                together[tuple(centres[shape.radius].flatten().tolist())].append(shape)
        for chosen, group in together.items():
            yield Part(image, tissue, torch.tensor(chosen).view(-1, 2), group)


def _cost(parts: Sequence[Part], each: float) -> str:
    rows = {(part.tissue.name, shape) for part in parts for shape in part.shapes}
    *tissues, last = dict.fromkeys(part.tissue.name for part in parts)
    where = f"{', '.join(tissues)} and {last}" if tissues else last
    seconds = each * sum(part.cost for part in parts)
    length = f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"
    return f"{len(rows)} more structures in {where}: about {length} of processor time"


def _measure(
    layer: TolerancedLayer,
    same: TolerancedLayer,
    part: Part,
    contrasts: Sequence[float],
    found: dict[tuple[str, Shape], _Found],
) -> None:
    crops = layer.crops(part.centres)
    f, f_x = layer.split.denoiser, layer.split.denoiser(crops.images)
    for shape in part.shapes:
        one = found[part.tissue.name, shape]
        shapes = _put(shape, crops)
        structures = crops.covariance.blurred(shapes)
        for contrast in contrasts:
            change = f(crops.images + contrast * structures) - f_x
            one.kept[contrast].append(shape.kept(change, contrast * structures, shapes).cpu().double())
    for prefix, which in (("", layer), ("identity_", same)):
        for shape, values, converged in _seen(which, which.crops(part.centres), part.shapes):
            one = found[part.tissue.name, shape]
            one.converged = one.converged and (converged or prefix != "")
            for name, value in values.items():
                one.values[prefix + name].append(value.cpu().double())


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
        alone = hidden_alone(layer.split, crops, d, layer.tolerance)
        values = {
            "detectability_kept": seen.kept,
            "detectability_lost": seen.lost,
            "hidden_hu": CONTRAST * alone,
            "hidden_companion_hu": CONTRAST * hidden_with_companion(layer, crops, d, alone),
        }
        yield shape, values, seen.converged
