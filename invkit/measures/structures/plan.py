"""Where structures are put: the tissues of the images, and places that structures of several sizes share."""

__all__ = ["PLACES", "RADII", "Breadth", "Layers", "Part", "planned"]

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from invkit.images.tissue import Tissue, by_area, places_for
from invkit.measures.structures.shapes import DISCS, SHAPES, Shape
from invkit.parts.workshop import silent
from invkit.tolerance.layer import TolerancedLayer
from invkit.training.seeds import derive_seed

PLACES = 4  # in every image
RADII = tuple(shape.radius for shape in DISCS)
Layers = Sequence[TolerancedLayer]
_Placed = tuple[TolerancedLayer, TolerancedLayer, dict[float, Tensor]]


def _nowhere(_: Tissue) -> None:
    """Return no other parts."""


@dataclass(frozen=True)
class Breadth:
    """That all kinds of structures, contrasts and tissues are wanted.

    Args:
        say: is told what they cost, before that begins: discs in the commonest tissue have shown it by then.
        elsewhere: gives layer and identity at other parts of large images, for a tissue that lacks places in those at hand.
    """

    say: Callable[[str], None] = silent
    elsewhere: Callable[[Tissue], tuple[Layers, Layers] | None] = _nowhere


@dataclass(frozen=True)
class Part:
    """Structures that share their places in one image: one linearisation serves them all.

    Args:
        layer: at the image.
        identity: at the image, at the layer's tolerance.
        tissue: where the places lie.
        centres: rows and columns, `(N, 2)`.
        shapes: what is put there, one after the other.
    """

    layer: TolerancedLayer
    identity: TolerancedLayer
    tissue: Tissue
    centres: Tensor
    shapes: list[Shape]

    @property
    def cost(self) -> int:
        """How many structures are measured."""
        return len(self.centres) * len(self.shapes)


def planned(
    layers: Layers, identities: Layers, seed: int, full: Breadth | None = None
) -> tuple[list[Part], list[Part]]:
    """Return the discs in the commonest tissue that has a place, and all the rest.

    Args:
        layers: the layer at each image.
        identities: the identity at each image.
        seed: of places.
        full: for all kinds and tissues; otherwise there is no rest.
    """
    found: list[tuple[Tissue, list[_Placed]]] = []
    for tissue in by_area([layer.x[(..., *layer.frame.interior)] for layer in layers]):
        placed = _placed(layers, identities, tissue, seed)
        lacking = _count(placed) < len(layers) * len(RADII) * PLACES
        if full is not None and lacking and (other := full.elsewhere(tissue)) is not None:
            there = [one.at(layer.tolerance) for one, layer in zip(other[0], layers, strict=True)]
            placed = max(placed, _placed(there, other[1], tissue, seed), key=_count)
        if placed:
            found.append((tissue, placed))
            if full is None:
                break
    if not found:
        return [], []
    commonest, *less = found
    discs = list(_parts(*commonest, DISCS))
    if full is None:
        return discs, []
    others = list(_parts(*commonest, [shape for shape in SHAPES if shape not in DISCS]))
    for tissue, placed in less:
        others += _parts(tissue, placed, SHAPES)
    return discs, others


def _placed(layers: Layers, identities: Layers, tissue: Tissue, seed: int) -> list[_Placed]:
    """Return layer and identity at every image that has a place in a tissue, with the places for each radius."""
    found = []
    for image, (layer, identity) in enumerate(zip(layers, identities, strict=True)):
        places = places_for(
            layer.x,
            tissue,
            RADII,
            PLACES,
            seed=derive_seed(seed, "structures", tissue.name, image),
            part=layer.frame.interior,
        )
        if places:
            found.append((layer, identity.beside(layer), places))
    return found


def _count(placed: Sequence[_Placed]) -> int:
    return sum(len(centres) for *_, places in placed for centres in places.values())


def _parts(tissue: Tissue, placed: Sequence[_Placed], shapes: Sequence[Shape]) -> Iterator[Part]:
    for layer, identity, places in placed:
        together: dict[tuple[int, ...], list[Shape]] = defaultdict(list)
        for shape in shapes:
            if shape.radius in places:
                together[tuple(places[shape.radius].flatten().tolist())].append(shape)
        for centres, group in together.items():
            yield Part(layer, identity, tissue, torch.tensor(centres).view(-1, 2), group)
