"""Full-dose and low-dose series that show the same slices, matched by position along the normal of the slices."""

__all__ = ["Arrangement", "Pair", "arrange", "match"]

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np
from numpy.typing import NDArray

from invkit.data.dicom.info import SliceInfo
from invkit.data.exam import Role
from invkit.data.prepare.layouts import Found, Series, Skip, below
from invkit.data.prepare.pixels import anatomy_difference, read_pixels
from invkit.errors import ImageError

LESS_EXPOSURE = 0.8
MORE_NOISE = 1.25
SAME_ANATOMY = 15.0  # HU, the most that two series may differ where nothing else says that they are partners
PROBES = 3


@dataclass(frozen=True, eq=False)
class Pair:
    """Two series of one patient that show the same slices at two doses.

    Args:
        full: at full dose.
        low: at low dose.
        slices: (full, low) of each position that both have.
        dose: of `low` as a fraction, where it is known.
        told_by: what says which one is low dose.
    """

    full: Series
    low: Series
    slices: tuple[tuple[SliceInfo, SliceInfo], ...]
    dose: float | None
    told_by: str


@dataclass
class Arrangement:
    """Pairs, series at full dose without a partner, and what cannot be used."""

    pairs: list[Pair] = field(default_factory=list)
    singles: list[Series] = field(default_factory=list)
    skipped: list[Skip] = field(default_factory=list)


def arrange(found: Found, *, rescale: tuple[float, float] | None = None) -> Arrangement:
    """Find the partner of every low-dose series.

    Partners are of one patient and source, and have the same size, spacing, plane, thickness and kernel. Which one is
    low dose is said by the call, a folder's or file's name, or the series' description; else two series at
    the same positions are compared by exposure, then by noise, and are partners only where they show the same
    anatomy.

    Args:
        found: all series.
        rescale: as for `find_series`; a few slices are read where the headers do not tell.
    """
    result = Arrangement(skipped=list(found.skipped))
    groups: dict[tuple[int, str], list[Series]] = {}
    for series in found.series:
        groups.setdefault((series.source, series.patient), []).append(series)
    for source in sorted({series.source for series in found.series}):
        own = [series for series in found.series if series.source == source]
        if (
            len(own) == 2
            and {series.told_by for series in own} == {"the call"}
            and len({s.role for s in own}) == 2
        ):
            # The user paired them, even if their files state two patients.
            for series in own:
                groups.pop((source, series.patient), None)
            groups[source, "both"] = own
    for group in groups.values():
        _arrange_patient(group, result, rescale)
    return result


def match(full: Series, low: Series) -> list[tuple[SliceInfo, SliceInfo]]:
    """Return the slices that two series have in common, by position, or by number where no slice has one.

    Positions are the same within a tenth of the distance between slices; the first pixels lie at the same place within a
    tenth of a pixel.
    """
    if not full.positions and not low.positions:
        numbers = {item.instance: item for item in low.slices if item.instance is not None}
        return [(item, numbers[item.instance]) for item in full.slices if item.instance in numbers]
    steps = [step for step in (full.step, low.step) if step]
    tolerance = max(0.1 * min(steps), 0.01) if steps else 0.1
    others = [item for item in low.slices if item.position is not None]
    places = np.array([item.position for item in others])
    pairs: list[tuple[SliceInfo, SliceInfo]] = []
    for item in full.slices:
        if item.position is None or not len(places):
            continue
        nearest = int(np.abs(places - item.position).argmin())
        if abs(float(places[nearest]) - item.position) <= tolerance and _aligned(item, others[nearest]):
            pairs.append((item, others[nearest]))
    return pairs


def _arrange_patient(
    group: Sequence[Series], result: Arrangement, rescale: tuple[float, float] | None
) -> None:
    roles: dict[int, Role | None] = {id(series): series.role for series in group}
    if not any(series.role == "full" for series in group):
        for series in group:
            # "Low dose" as a description is also what a screening examination is called.
            if series.role == "low" and series.told_by == "the series' description":
                roles[id(series)] = None
    lows = [series for series in group if roles[id(series)] == "low"]
    others = [series for series in group if roles[id(series)] != "low"]
    used: set[int] = set()
    candidates = [
        (low.rest != full.rest, -len(pairs), number, full, low, pairs)
        for number, (low, full) in enumerate((low, full) for low in lows for full in others)
        if _alike(full, low) and (pairs := match(full, low))
    ]
    for _, _, _, full, low, pairs in sorted(candidates, key=lambda item: item[:3]):
        if not used & {id(full), id(low)}:
            used |= {id(full), id(low)}
            _pair(full, low, pairs, low.told_by, result)
    for low in lows:
        if id(low) not in used:
            result.skipped.append(
                _series_skip(low, "of low dose without a full-dose partner at its positions")
            )
    rest = [series for series in others if id(series) not in used]
    untold = [series for series in rest if roles[id(series)] is None]
    for series in untold:
        twins = [
            other
            for other in untold
            if other is not series and _alike(series, other) and _overlap(series, other)
        ]
        if len(twins) == 1 and id(series) not in used:
            used |= _compare(series, twins[0], result, rescale)
    result.singles += [series for series in rest if id(series) not in used]


def _alike(one: Series, other: Series) -> bool:
    """Return whether two series can be partners; what the user paired may differ in how it was reconstructed."""
    a, b = one.first, other.first
    if (a.rows, a.cols) != (b.rows, b.cols) or not _close(a.spacing, b.spacing, 1e-3):
        return False
    if a.plane and b.plane and not _close(a.plane[:6], b.plane[:6], 1e-3):
        return False
    if "the call" in (one.told_by, other.told_by):
        return True
    thickness = (a.thickness,), (b.thickness,)
    return (None in (a.kernel, b.kernel) or a.kernel == b.kernel) and (
        a.thickness is None or b.thickness is None or _close(*thickness, 1e-2)
    )


def _aligned(one: SliceInfo, other: SliceInfo) -> bool:
    limit = 0.1 * min(one.spacing) if one.spacing else 0.1
    return not (one.plane and other.plane) or _close(one.plane[6:], other.plane[6:], limit)


def _close(a: Sequence[float | None] | None, b: Sequence[float | None] | None, limit: float) -> bool:
    if a is None or b is None:
        return True
    return all(
        first is None or second is None or abs(first - second) <= limit
        for first, second in zip(a, b, strict=True)
    )


def _overlap(one: Series, other: Series) -> bool:
    return 2 * len(match(one, other)) >= min(len(one.slices), len(other.slices))


def _pair(
    full: Series,
    low: Series,
    pairs: list[tuple[SliceInfo, SliceInfo]],
    told_by: str,
    result: Arrangement,
) -> None:
    result.pairs.append(Pair(full, low, tuple(pairs), low.dose or _dose(full, low), told_by))
    for series, number in ((full, 0), (low, 1)):
        matched = {id(pair[number]) for pair in pairs}
        result.skipped += [
            Skip(below(item.file.absolute(), series.root), "has no partner of the other dose at its position")
            for item in series.slices
            if id(item) not in matched
        ]


def _dose(full: Series, low: Series) -> float | None:
    """Return the exposure of one series as a fraction of the other's, where that is less than 1."""
    for name in ("ctdi_vol", "exposure", "tube_current"):
        values = [
            [value for item in series.slices if (value := getattr(item, name)) is not None and value > 0]
            for series in (full, low)
        ]
        if all(values):
            ratio = median(values[1]) / median(values[0])
            if ratio < LESS_EXPOSURE:
                return round(float(ratio), 4)
    return None


def _compare(
    one: Series, other: Series, result: Arrangement, rescale: tuple[float, float] | None
) -> set[int]:
    """Pair two series at the same positions if one is the other at a lower dose; return whom that used up."""
    common = match(one, other)
    try:
        probes = [common[index] for index in np.linspace(0, len(common) - 1, PROBES).round().astype(int)]
        images = [
            [read_pixels(item.file, [item.frame], rescale=rescale)[0][0] for item in probe]
            for probe in probes
        ]
    except ImageError:
        return set()
    if max(anatomy_difference(first, second) for first, second in images) > SAME_ANATOMY:
        return set()
    if _dose(one, other) or _dose(other, one):
        full, low, told_by = (one, other, "exposure") if _dose(one, other) else (other, one, "exposure")
    elif noisier := _noisier(images):
        full, low, told_by = (one, other, "noise") if noisier == 2 else (other, one, "noise")
    else:
        reason = (
            "at the positions of another one; which of them is low dose cannot be told: name them as FULL,LOW"
        )
        result.skipped.append(_series_skip(other, reason))
        return {id(other)}
    _pair(full, low, match(full, low), told_by, result)
    return {id(one), id(other)}


def _noisier(images: Sequence[Sequence[NDArray[np.float32]]]) -> int:
    """Return which of two images of the same anatomy has more noise, the 1st or the 2nd; 0 if neither clearly has.

    The difference holds no anatomy, so its covariance with either image is that one's noise alone.
    """
    noise = np.zeros(2)
    for first, second in images:
        one, other = (np.diff(image.astype(np.float64), axis=1) for image in (first, second))
        noise += [np.mean((one - other) * one), np.mean((other - one) * other)]
    if noise.max() <= MORE_NOISE**2 * max(noise.min(), 0):
        return 0
    return 1 + int(noise.argmax())


def _series_skip(series: Series, reason: str) -> Skip:
    folder = series.first.file.absolute().parent
    return Skip(below(folder, series.root), f"holds a series of {len(series.slices)} slices {reason}")
