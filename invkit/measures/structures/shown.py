"""What hides, as images: x, x with it, and what f makes of both, certified on all of x."""

__all__ = ["ChangedImage", "changed_image", "hidden_images"]

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from invkit.measures.structures.hidden import hidden_with_companion, largest_unseen
from invkit.measures.structures.plan import planned
from invkit.measures.structures.rows import StructureRow
from invkit.statistics.intervals import number
from invkit.tolerance.layer import Crops, TolerancedLayer


@dataclass(frozen=True)
class ChangedImage:
    """An image and another one that the layer does not tell from it; images are `(1, 1, h, w)`, HU.

    Args:
        name: what the change is: `hidden` or `structure`, alone or with a companion.
        text: in words.
        x: the image.
        changed: the other one.
        structure: what of their difference is the structure; the rest is noise.
        f_x: f(x).
        f_changed: f of the other one.
        distance: of the two, in repeat scans; the largest over windows.
        contrast: of the structure, HU.
        scale: of what was asked for, which is certified; 1 but for what the whole image moves further than the part of it.
    """

    name: str
    text: str
    x: Tensor
    changed: Tensor
    structure: Tensor
    f_x: Tensor
    f_changed: Tensor
    distance: float
    contrast: float
    scale: float = 1.0

    def images(self) -> dict[str, Tensor]:
        """Return its images by name."""
        return {
            "x": self.x,
            "changed": self.changed,
            "structure": self.structure,
            "f_x": self.f_x,
            "f_changed": self.f_changed,
        }


@torch.no_grad()
def changed_image(
    layer: TolerancedLayer,
    name: str,
    text: str,
    corner: tuple[int, int],
    structure: Tensor,
    change: Tensor,
    contrast: float,
) -> ChangedImage:
    """Return x and x with a change that was found on a part of it; it is made less where it is not certified on the whole.

    Args:
        layer: with its tolerance.
        name: see `ChangedImage`.
        text: likewise; `{}` stands for the contrast.
        corner: row and column of the part.
        structure: what of the change is a structure, `(1, 1, h, w)`, HU.
        change: all of it.
        contrast: of the structure, HU.
    """
    whole = [_placed(part, layer.x, corner) for part in (structure, change)]
    none = torch.zeros(1, 2, dtype=torch.int64)
    everything = Crops(layer.x, none, none, layer.windows, layer.covariance)
    z = layer.split.phi(layer.x)
    scale = 1.0
    distance = float(layer.windows.distance(layer.split.phi(layer.x + whole[1]), z))
    if distance > layer.tolerance:
        scale = min(1.0, float(largest_unseen(layer, everything, whole[1])))
        distance = float(layer.windows.distance(layer.split.phi(layer.x + scale * whole[1]), z))
    changed = layer.x + scale * whole[1]
    return ChangedImage(
        name,
        text.format(number(abs(scale * contrast))),
        layer.x,
        changed,
        scale * whole[0],
        layer.f_x,
        layer.split.denoiser(changed),
        distance,
        scale * contrast,
        scale,
    )


def hidden_images(
    layers: Sequence[TolerancedLayer],
    identities: Sequence[TolerancedLayer],
    rows: Sequence[StructureRow],
    *,
    contrast: float,
    seed: int,
) -> tuple[ChangedImage, ...]:
    """Return the disc that hides most, compared with the image itself, at its first place: alone, and with its companion.

    Args:
        layers: the layer at each image.
        identities: the identity at each image.
        rows: of structures; none are shown where no disc is among them.
        contrast: of the rows, HU.
        seed: as of the rows.
    """
    discs = [row for row in rows if row.shape.kind == "disc" and row.tissue == rows[0].tissue]
    if not discs:
        return ()
    most = max(discs, key=lambda row: row.values["hidden_hu"].value / row.values["identity_hidden_hu"].value)
    part = next((part for part in planned(layers, identities, seed)[0] if most.shape in part.shapes), None)
    if part is None:
        return ()  # it was measured elsewhere in a large image
    centre = part.centres[:1]
    crops = part.layer.crops(centre)
    size = (crops.images.shape[-2], crops.images.shape[-1])
    structure = crops.covariance.blurred(most.shape.at(crops.centres, size).to(crops.images))
    alone = largest_unseen(part.layer, crops, contrast * structure)
    hidden = hidden_with_companion(part.layer, crops, contrast * structure, alone)
    row, column = (centre - crops.centres)[0].tolist()
    found, radius = [], number(most.shape.size)
    for name, text, c, change in (
        (
            "hidden",
            f"a disc of {{}} HU and radius {radius} px, blurred as the scanner blurs",
            float(alone),
            None,
        ),
        (
            "hidden_companion",
            f"a disc of {{}} HU and radius {radius} px, likewise, with the noise that hides it best",
            float(hidden.contrast),
            hidden.change,
        ),
    ):
        d = c * contrast * structure
        found.append(
            changed_image(
                part.layer, name, text, (row, column), d, d if change is None else change, c * contrast
            )
        )
    return tuple(found)


def _placed(part: Tensor, x: Tensor, corner: tuple[int, int]) -> Tensor:
    """Return a part of an image where it belongs in images like x, 0 elsewhere."""
    whole = torch.zeros_like(x)
    rows, columns = part.shape[-2:]
    whole[..., corner[0] : corner[0] + rows, corner[1] : corner[1] + columns] = part
    return whole
