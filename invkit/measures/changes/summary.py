"""Changes of anatomy against one layer: which are proposed for an image, and what all of them together tell."""

__all__ = ["Anatomy", "Kind", "proposals", "summarise"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from invkit.fiber.distance import Activation
from invkit.measures.changes.propose import Change, given, inserted, removed, shifted
from invkit.measures.changes.survive import Survival
from invkit.sampling.base import SampleModel, Scalable
from invkit.statistics.intervals import Interval, bootstrap

RADII = (2.0, 4.0, 8.0)  # pixels, of discs
CONTRAST = 100.0  # HU, of discs
PLACES = 3  # structures of one kind and size
SCALED = 1.5  # v
BEYOND = 1.96  # standard deviations of what two scans differ by


@dataclass(frozen=True)
class Kind:
    """What refinement left of one kind of change, over all images and places.

    Args:
        kind: `"disc"`, `"removed"`, `"shifted"`, `"v swapped"` or `"v scaled"`.
        label: for people.
        radius: pixels, or `None`.
        proposed: mean contrast as proposed, HU.
        left: mean contrast left in certified images, with an interval over images or places, HU; `None` for none.
        largest: largest contrast left in a certified image, HU.
        allowed: what the tolerance alone allows for that structure at most, HU, if the layer kept everything.
        scans: what two scans of the same anatomy differ by at that structure, 95 % of the time, HU.
        found: whether a change was found that the layer does not see.
        structures: how many were tried in certified images.
        certified: images that were certified.
        tried: images that were refined.
    """

    kind: str
    label: str
    radius: float | None
    proposed: float
    left: Interval | None
    largest: float | None
    allowed: float | None
    scans: float | None
    found: bool
    structures: int
    certified: int
    tried: int

    def figures(self) -> dict[str, Any]:
        """Return the figures by their keys."""
        return {
            "kind": self.kind,
            "label": self.label,
            "radius_px": self.radius,
            "proposed_hu": self.proposed,
            "left_hu": self.left,
            "largest_hu": self.largest,
            "allowed_hu": self.allowed,
            "scans_hu": self.scans,
            "found": self.found,
            "structures": self.structures,
            "certified": self.certified,
            "tried": self.tried,
        }


@dataclass(frozen=True)
class Anatomy:
    """The results for all kinds of changes.

    Args:
        kinds: one entry a kind.
        epsilon: that they were certified with, in units of s_Phi.
        certified: images with another anatomy that were certified; several kinds share one.
        tried: images that were refined.
    """

    kinds: tuple[Kind, ...]
    epsilon: float
    certified: int
    tried: int

    @property
    def strongest(self) -> Kind | None:
        """The kind with the largest remaining contrast, among those where a change was found if there are any."""
        known = [kind for kind in self.kinds if kind.largest is not None]
        known = [kind for kind in known if kind.found] or known
        return max(known, key=lambda kind: kind.largest or 0.0, default=None)

    @property
    def bound(self) -> float:
        """The most that remains of changes that do not count as found, HU."""
        known = [kind for kind in self.kinds if kind.largest is not None and not kind.found]
        return max((kind.largest or 0.0 for kind in known), default=0.0)

    def figures(self) -> dict[str, Any]:
        """Return the figures by their keys."""
        return {
            "epsilon": self.epsilon,
            "certified": self.certified,
            "tried": self.tried,
            "found": any(kind.found for kind in self.kinds),
            "bound_hu": self.bound,
            "changes": list(self.kinds),
        }


def proposals(
    model: SampleModel | None, x: Tensor, z: Activation, reference: Tensor, *, seed: int
) -> list[list[Change]]:
    """Return the changes of anatomy to try on one image, in sets that are put into it together.

    Discs of three sizes are put in, structures smoothed away or moved, and the image changed by the model: as v of another
    image would change it, and as a v half as long again would. Of the model's image only the difference from its own image for
    the true v is taken, so that what the code loses of x stays in x.

    Args:
        model: the layer's; without one nothing is changed by a model.
        x: the image, `(1, 1, H, W)`, HU.
        z: its activation.
        reference: another image of the same size, `(1, 1, H, W)`, HU.
        seed: of all choices.
    """
    discs: list[Change] = []
    for index, radius in enumerate(reversed(RADII)):
        taken = [place for change in discs for place in change.places]
        disc = inserted(x, radius, CONTRAST, PLACES, seed=seed + index, taken=taken)
        discs += [] if disc is None else [disc]
    gone = removed(x, 6.0, PLACES, seed=seed)
    moved = shifted(x, 8.0, 2, PLACES, seed=seed, taken=() if gone is None else gone.places)
    sets: list[list[Change | None]] = [[*discs], [gone, moved]]
    if model is not None:
        own = model.swap(x, z, z)
        other = model.swap(reference, model.split.phi(reference), z)
        sets.append([given("v swapped", "changes by the v of another image", other - own)])
        if isinstance(model, Scalable):
            longer = model.scaled(x, z, SCALED) - own
            sets.append([given("v scaled", f"changes by v times {SCALED:g}", longer)])
    known = [[change for change in together if change is not None] for together in sets]
    return [together for together in known if together]


def summarise(
    survivals: Sequence[Sequence[Survival]],
    scans: Sequence[Tensor],
    *,
    epsilon: float,
    tolerance: float,
    seed: int,
) -> Anatomy:
    """Return what remains of the changes of all images.

    A structure counts as found where the contrast left exceeds what the tolerance allows, and either what two scans differ by
    there in 95 % of all cases or half of what was proposed.

    Args:
        survivals: for each image what was left of its changes.
        scans: for each image differences of two noise realisations, `(m, 1, H, W)`, HU.
        epsilon: of the certificates, in units of s_Phi.
        tolerance: what epsilon is in HU for a layer that keeps everything.
        seed: of the bootstrap.
    """
    labels = list(dict.fromkeys(found.change.label for of_image in survivals for found in of_image))
    kinds = []
    for label in labels:
        rows = [
            (image, found)
            for image, of_image in enumerate(survivals)
            for found in of_image
            if found.change.label == label
        ]
        kinds.append(_kind(rows, scans, tolerance, seed))
    held = {
        (image, found.proposal): found.certified
        for image, of_image in enumerate(survivals)
        for found in of_image
    }
    return Anatomy(tuple(kinds), epsilon, certified=sum(held.values()), tried=len(held))


def _kind(rows: Sequence[tuple[int, Survival]], scans: Sequence[Tensor], tolerance: float, seed: int) -> Kind:
    change = rows[0][1].change
    held = [(image, found) for image, found in rows if found.certified]
    proposed = torch.cat([found.change.contrast for _, found in rows]).mean().item()
    left = largest = allowed = noise = None
    seen = False
    structures = 0
    if held:
        every = torch.cat([found.left for _, found in held]).double()
        wanted = torch.cat([found.change.contrast for _, found in held]).cpu()
        limits = torch.cat([found.change.allowed(tolerance) for _, found in held]).cpu()
        two = torch.cat([BEYOND * found.change.left(scans[image]).std(0) for image, found in held]).cpu()
        passed = (every > limits) & ((every > two) | (every > wanted / 2))
        seen = bool(passed.any())
        structures = len(every)
        owners = [image for image, found in held for _ in found.left]
        left = bootstrap(every, groups=owners if len(set(owners)) > 1 else None, seed=seed)
        best = int(torch.where(passed, every, -torch.inf if seen else every).argmax())
        largest, allowed, noise = (float(column[best]) for column in (every, limits, two))
    return Kind(
        kind=change.kind,
        label=change.label,
        radius=change.radius,
        proposed=proposed,
        left=left,
        largest=largest,
        allowed=allowed,
        scans=noise,
        found=seen,
        structures=structures,
        certified=len(held),
        tried=len(rows),
    )
