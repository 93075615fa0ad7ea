"""Changes of anatomy that can be proposed: structures put in, taken out or moved, in soft tissue."""

__all__ = ["Change", "apart", "given", "inserted", "removed", "shifted", "smooth"]

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from invkit.errors import InputError
from invkit.images.disc import disc, disc_places

MARGIN = 8  # pixels that structures keep from the border, where convolutions are padded
GAP = 16  # pixels between structures, so that what is left of one is not counted for another
FINE = 1.0  # pixels: the Gaussian that takes out the finest noise before structures are moved or taken out
LEAST = 1.0  # HU: weaker structures are none
ANYWHERE = (-math.inf, math.inf)

Place = tuple[float, float, float]


@dataclass(frozen=True)
class Change:
    """One proposal: structures that are changed together, so that one refinement answers for all of them.

    A structure's contrast in a difference d of images is `<d, weight>`: it is `contrast` for the change as proposed and 0 for
    none. The weight is the structure's own shape, smoothed, so that noise of the finest scale hardly counts.

    Args:
        kind: `"disc"`, `"removed"`, `"shifted"` or another name.
        label: for people.
        fields: what each structure adds to the image, `(P, 1, H, W)`, HU.
        weights: `(P, 1, H, W)`, per pixel.
        contrast: of each as proposed, `(P,)`, HU, positive.
        radius: pixels; `None` for a change without a size.
        places: row, column and radius of each structure; none for a change of the whole image.
    """

    kind: str
    label: str
    fields: Tensor
    weights: Tensor
    contrast: Tensor
    radius: float | None = None
    places: tuple[Place, ...] = ()

    @property
    def whole(self) -> Tensor:
        """What is added to the image, `(1, H, W)`, HU."""
        return self.fields.sum(0)

    def left(self, difference: Tensor) -> Tensor:
        """Return the contrast of each structure in differences of images `(..., 1, H, W)`, HU: `(..., P)`, HU, float64."""
        left: Tensor = torch.tensordot(
            difference.cpu().double(), self.weights.double(), ([-3, -2, -1], [1, 2, 3])
        )
        return left

    def allowed(self, tolerance: float) -> Tensor:
        """Return the largest contrast of each in any difference of at most this root mean square, HU: `(P,)`, float64.

        It is `tolerance sqrt(H W) |weight|` (Cauchy-Schwarz): all of the tolerance is spent on one structure.
        """
        weights = self.weights.double().flatten(1)
        lengths: Tensor = torch.linalg.vector_norm(weights, dim=1)
        return tolerance * math.sqrt(weights.shape[1]) * lengths


def apart(
    image: Tensor,
    radius: float,
    count: int,
    *,
    seed: int,
    strength: Tensor | None = None,
    taken: Sequence[Place] = (),
) -> list[tuple[int, int]]:
    """Return up to `count` centres of discs in soft tissue, apart from each other; anywhere where there is no tissue.

    Args:
        image: `(1, 1, H, W)`, HU.
        radius: pixels.
        count: how many are wanted.
        seed: of the choice.
        strength: `(H, W)`; the places with the largest are taken first. At random by default.
        taken: row, column and radius of structures to keep away from.
    """
    height, width = image.shape[-2:]
    margin = min(MARGIN, max(0, (min(height, width) - 2 * math.ceil(radius) - 1) // 2))
    places = disc_places(image, radius, height * width, seed=seed, margin=margin)
    if not len(places):
        places = disc_places(image, radius, height * width, seed=seed, margin=margin, tissue=ANYWHERE)
    if strength is not None:
        order = strength.cpu()[places[:, 0], places[:, 1]].argsort(descending=True, stable=True)
        places = places[order]
    for row, column, other in taken:
        places = places[_distance(places, row, column) >= radius + other + GAP]
    chosen: list[tuple[int, int]] = []
    while len(places) and len(chosen) < count:
        row, column = (int(value) for value in places[0])
        chosen.append((row, column))
        places = places[_distance(places, row, column) >= 2 * radius + GAP]
    return chosen


def _distance(places: Tensor, row: float, column: float) -> Tensor:
    away = places.double() - torch.tensor([row, column], dtype=torch.float64)
    lengths: Tensor = torch.linalg.vector_norm(away, dim=1)
    return lengths


def inserted(
    image: Tensor, radius: float, contrast: float, count: int, *, seed: int, taken: Sequence[Place] = ()
) -> Change | None:
    """Return discs that are put into the image, brighter and darker in turn; `None` where none has room.

    Args:
        image: `(1, 1, H, W)`, HU.
        radius: pixels.
        contrast: HU.
        count: discs wanted.
        seed: of their places.
        taken: structures to keep away from.
    """
    places = apart(image, radius, count, seed=seed, taken=taken)
    fields = [contrast * (-1) ** index * _disc(image, place, radius)[0] for index, place in enumerate(places)]
    label = f"discs of radius {radius:g} pixels put in"
    return _change("disc", label, fields, radius, places, torch.full((len(fields),), contrast))


def removed(
    image: Tensor, radius: float, count: int, *, seed: int, taken: Sequence[Place] = ()
) -> Change | None:
    """Return structures that are taken out: the strongest there are in soft tissue, smoothed away within a disc.

    Args:
        image: `(1, 1, H, W)`, HU.
        radius: pixels.
        count: structures wanted.
        seed: of the choice among equals.
        taken: structures to keep away from.
    """
    fine, coarse = smooth(image, FINE), smooth(image, radius)
    strength = (smooth(image, radius / 2) - coarse)[0, 0].abs()
    places = apart(image, radius, count, seed=seed, strength=strength, taken=taken)
    fields = [(_disc(image, place, radius) * (coarse - fine))[0] for place in places]
    label = f"structures smoothed away within a radius of {radius:g} pixels"
    return _change("removed", label, fields, radius, places)


def shifted(
    image: Tensor, radius: float, by: int, count: int, *, seed: int, taken: Sequence[Place] = ()
) -> Change | None:
    """Return structures that are moved: the strongest there are in soft tissue, within a disc, along the rows.

    Args:
        image: `(1, 1, H, W)`, HU.
        radius: pixels.
        by: pixels.
        count: structures wanted.
        seed: of the choice among equals.
        taken: structures to keep away from.
    """
    fine = smooth(image, FINE)
    moved = fine.roll(by, -1) - fine
    strength = smooth(moved.square(), radius / 2)[0, 0]
    places = apart(image, radius, count, seed=seed, strength=strength, taken=taken)
    fields = [(_disc(image, place, radius) * moved)[0] for place in places]
    label = f"structures within a radius of {radius:g} pixels moved by {by}"
    return _change("shifted", label, fields, radius, places)


def given(kind: str, label: str, field: Tensor) -> Change | None:
    """Return a change of the whole image, `(1, 1, H, W)`, HU, whose contrast is its root mean square; `None` for none."""
    return _change(kind, label, [field[0]], None)


def smooth(image: Tensor, sigma: float) -> Tensor:
    """Return images `(B, 1, H, W)` smoothed by a Gaussian of this standard deviation, pixels."""
    reach = math.ceil(3 * sigma)
    line = torch.arange(-reach, reach + 1, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-0.5 * (line / sigma).square())
    kernel = kernel / kernel.sum()
    padded = functional.pad(image, (reach,) * 4, mode="replicate")
    rows = functional.conv2d(padded, kernel.view(1, 1, -1, 1))
    return functional.conv2d(rows, kernel.view(1, 1, 1, -1))


def _disc(image: Tensor, centre: tuple[int, int], radius: float) -> Tensor:
    return disc(image.shape[-2], image.shape[-1], centre, radius).to(image)[None, None]


def _change(
    kind: str,
    label: str,
    fields: list[Tensor],
    radius: float | None,
    places: Sequence[tuple[int, int]] = (),
    contrast: Tensor | None = None,
) -> Change | None:
    """Return a change, without structures that change nothing; by default their contrast is a root mean square."""
    if not fields:
        return None
    stack = torch.stack(fields).cpu()
    if not bool(stack.isfinite().all()):
        raise InputError(f"a change of the image is not finite: {label}")
    area = stack[0].numel() if radius is None else math.pi * radius**2
    power = stack.double().square().sum((1, 2, 3))
    if contrast is None:
        contrast = (power / area).sqrt()
    shape = smooth(stack, FINE if radius is None else max(FINE, radius / 2))
    along = (shape.double() * stack.double()).sum((1, 2, 3))
    some = (along > 0) & (contrast >= LEAST)
    if not bool(some.any()):
        return None
    weights = shape[some] * (contrast[some] / along[some]).to(shape).view(-1, 1, 1, 1)
    where = tuple((float(row), float(column), radius or 0.0) for row, column in places)
    return Change(kind, label, stack[some], weights, contrast[some].double(), radius, where)
