"""What is said of a structure that somebody has marked."""

__all__ = ["MarkedFound", "marked_sentence"]

from dataclasses import dataclass

from invkit.statistics.intervals import number, percent

STANDS_OUT = 3.0  # standard deviations of dose noise
ALL = 0.995  # of the structure


@dataclass(frozen=True)
class MarkedFound:
    """What is known of a marked structure.

    Args:
        box: where, `x,y,w,h`.
        contrast: above its surroundings, HU.
        noise: standard deviation of that by dose noise alone, HU.
        output: contrast in f(x), HU.
        share: that the layer does not see, of 1: by itself, and with noise of at most two standard deviations in its place.
        image: the same for the image itself at the same tolerance.
    """

    box: str
    contrast: float
    noise: float
    output: float
    share: tuple[float, float]
    image: tuple[float, float]


def marked_sentence(layer: str, found: MarkedFound) -> str:
    """Return whether a marked structure may be due to noise, and how weak it may be for all that the layer can tell.

    Args:
        layer: its name in a sentence.
        found: what was measured.
    """
    times = abs(found.contrast) / found.noise
    stands = "more than dose noise explains" if times >= STANDS_OUT else "which dose noise alone can explain"
    alone, companion = found.share
    if companion >= ALL:
        beside = "with noise of at most two standard deviations in its place, all of it may be missing"
    else:
        beside = f"with noise of at most two standard deviations in its place, {percent(companion)} may"
    return (
        f"The structure at {found.box} has {number(found.contrast)} HU above its surroundings ({number(found.output)} HU in "
        f"f(x)), {number(times)} standard deviations of dose noise, {stands}. For all that {layer} can tell, {percent(alone)} of "
        f"it may be missing ({percent(found.image[0])} for the image itself), which leaves "
        f"{number((1 - alone) * found.contrast)} HU; {beside} ({percent(found.image[1])} for the image itself)."
    )
