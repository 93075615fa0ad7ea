"""What becomes of structures and of noise, in sentences: what f keeps, and what hides from the layer beyond the tolerance."""

__all__ = ["HIDES", "MARKS", "DiscFound", "StructureFound", "StructuresFound", "structure_sentences"]

from collections.abc import Sequence
from dataclasses import dataclass

from invkit.statistics.intervals import number, percent

HIDES = 1.3  # times what the image itself hides at the same tolerance: no more is called nothing
MARKS = {
    "grey_level": "dose noise that changes f(x) by one grey level of a display",
    "tenth_of_repeat": "a tenth of what a repeat scan changes",
}


@dataclass(frozen=True)
class DiscFound:
    """Discs of one size; what the image has stands for the image itself in place of z, at the same tolerance.

    Args:
        radius: pixels.
        kept: share of the contrast that f keeps.
        lost: share of the detectability that the layer loses.
        lost_image: the same for the image.
        hidden: the strongest disc that the layer does not see, HU.
        hidden_image: the same for the image.
    """

    radius: float
    kept: float
    lost: float
    lost_image: float
    hidden: float
    hidden_image: float


@dataclass(frozen=True)
class StructureFound:
    """A structure of any kind, at one contrast in one tissue.

    Args:
        name: after "of", such as "edges of 4 px in lung".
        contrast: HU.
        kept: share of it that f keeps.
        hidden: contrast of the strongest one that the layer does not see, HU.
        hidden_image: the same for the image.
    """

    name: str
    contrast: float
    kept: float
    hidden: float
    hidden_image: float


@dataclass(frozen=True)
class StructuresFound:
    """What a layer's sentences are drawn from.

    Args:
        discs: from the smallest to the largest; empty where there was no place for any.
        tissue: where they lie; `None` where there was no place for any.
        noise: of the images, HU.
        left: of that noise in f, HU.
        hidden: noise that the layer does not see, HU; `None` where the interior is too small.
        hidden_image: the same for the image itself.
        tolerance: in repeat scans.
        mark: what tolerance that is, a key of `MARKS`.
        needed: side of an image with interior enough, pixels, where this one has not.
        window: rows and columns of the part of the image that all this is of, `None` for all of it.
        converged: whether all that was solved for converged.
        condition: of the layer, and whether that is a lower bound.
        high: share of the hidden noise's power above a quarter cycle per pixel, and of the dose noise's.
        every: structures of all kinds, contrasts and tissues; empty where these were not asked for.
    """

    discs: Sequence[DiscFound]
    tissue: str | None
    noise: float
    left: float
    hidden: float | None
    hidden_image: float | None
    tolerance: float
    mark: str
    needed: int | None
    window: tuple[int, int] | None
    converged: bool
    every: Sequence[StructureFound] = ()
    condition: tuple[float, bool] | None = None
    high: tuple[float, float] | None = None

    @property
    def worst(self) -> DiscFound | None:
        """The disc of which the layer hides most, compared with what the tolerance explains; `None` where there are none."""
        return max(self.discs, key=_beyond_image, default=None)

    @property
    def hides_structures(self) -> bool | None:
        """Whether the layer hides a disc beyond what the tolerance explains; `None` where there are none."""
        return None if self.worst is None else _hides(self.worst.hidden, self.worst.hidden_image)

    @property
    def hides_noise(self) -> bool:
        """Whether it hides noise of the image's dose beyond what the tolerance explains."""
        if self.hidden is None or self.hidden_image is None:
            return False
        return _hides(self.hidden, self.hidden_image)


def structure_sentences(layer: str, found: StructuresFound) -> list[str]:
    """Return what is said first of a layer.

    Args:
        layer: its name in a sentence.
        found: what was measured.
    """
    said = [_output(found), _layer(layer, found)]
    if found.every:
        said.append(_every(layer, found.every))
    if not found.converged:
        said.append(
            "Not all of these figures converged, since the layer is nearly singular: what hides may be more than is said."
        )
    return said


def _output(found: StructuresFound) -> str:
    where = "" if found.window is None else f"In a window of {found.window[0]} x {found.window[1]} pixels, "
    noise = f"{number(found.left)} of {number(found.noise)} HU of dose noise"
    if not found.discs:
        return f"{where}f leaves {noise}. No place for a disc in soft tissue, lung or bone was found within the frame."
    first, last = found.discs[0], found.discs[-1]
    discs = f"{percent(first.kept)} of the contrast of discs of radius {number(first.radius)} px"
    if last is not first:
        discs += f" and {percent(last.kept)} at {number(last.radius)} px"
    discs += f" in {found.tissue}"
    return f"{where}f keeps {discs}, and leaves {noise}."


def _layer(layer: str, found: StructuresFound) -> str:
    at = f"At a tolerance of {number(found.tolerance)} repeat scans ({MARKS.get(found.mark, found.mark)})"
    parts = []
    if found.condition is not None:
        value, at_least = found.condition
        bound = "at least " if at_least else ""
        parts.append(f"{layer} has a condition of {bound}{number(value)} (the image itself 1)")
    if (most := found.worst) is not None:
        what = f"a disc of {number(most.hidden)} HU at radius {number(most.radius)} px"
        if not found.hides_structures:
            parts.append(
                f"{layer} hides no more of a disc than the image itself does, within {number(HIDES)} times ({what}, "
                f"{number(most.hidden_image)} HU for the image)"
            )
        else:
            times = most.hidden / most.hidden_image
            parts.append(
                f"{layer} hides {what}, {number(times)} times what the tolerance alone explains "
                f"({number(most.hidden_image)} HU)"
            )
        worst = max(found.discs, key=lambda disc: disc.lost)
        parts.append(
            f"an ideal observer loses {percent(worst.lost)} of the detectability of discs at most "
            f"({percent(worst.lost_image)} for the image)"
        )
    if found.hidden is not None and found.hidden_image is not None:
        more = "more" if found.hides_noise else "no more"
        parts.append(
            f"{number(found.hidden)} HU of dose noise is hidden, {more} than in the image ({number(found.hidden_image)} HU)"
            + _where(found)
        )
    if found.needed is not None:
        parts.append(
            f"the interior is too small to say how much noise is hidden: that needs an image of {found.needed} pixels a side"
        )
    return f"{at}, {'; '.join(parts)}."


def _where(found: StructuresFound) -> str:
    if found.high is None:
        return ""
    ours, dose = found.high
    return (
        f", {100 * ours:.0f} % of it above a quarter cycle per pixel (of the dose noise {100 * dose:.0f} %)"
    )


def _every(layer: str, every: Sequence[StructureFound]) -> str:
    least, most = (choose(every, key=lambda one: one.kept) for choose in (min, max))
    hidden = max(every, key=_beyond_image)

    def kept(one: StructureFound) -> str:
        return f"{percent(one.kept)} of {number(one.contrast)} HU of {one.name}"

    return (
        f"Of all kinds, sizes, contrasts and tissues of structures, f keeps between {kept(least)} and {kept(most)}; compared with "
        f"the image itself, {layer} hides most of {hidden.name}: {number(hidden.hidden)} HU, "
        f"{number(hidden.hidden_image)} HU for the image."
    )


def _hides(hidden: float, by_the_image: float) -> bool:
    """Return whether this is more than the image itself hides at the same tolerance, which the tolerance alone explains."""
    return hidden > HIDES * by_the_image


def _beyond_image(one: DiscFound | StructureFound) -> float:
    """Return how many times as much is hidden from the layer as from the image at the same tolerance."""
    return one.hidden / max(one.hidden_image, 1e-9)
