"""Series of slices below the paths that a user names: the public data sets' layouts, any folder, arrays."""

__all__ = ["LDCT", "LDCT_FOLDER", "Found", "Series", "Skip", "below", "find_series"]

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median_low

from invkit.data.cache.files import is_cache
from invkit.data.dicom.archive import shown
from invkit.data.dicom.info import SliceInfo, dicom_info
from invkit.data.exam import Role, Words, dose_words, exam_of, public_id, stated_dose
from invkit.data.prepare.arrays import array_info, is_array
from invkit.errors import DataError, ImageError, UsageError

LDCT = "ldct"
"""Stands for the folder that `LDCT_FOLDER` names."""

LDCT_FOLDER = "LDCTBENCH_DATAFOLDER"

SAME_PLACE = 1e-3  # mm


@dataclass(frozen=True)
class Skip:
    """A file or folder that gives no slice, by its path below the one that was named, and why."""

    file: str
    reason: str


@dataclass(frozen=True, eq=False)
class Series:
    """Slices of one patient, made alike and lying in parallel planes, sorted by position.

    Args:
        patient: public id, or an unsalted hash, which is for this process only.
        public: whether it is a public id.
        exam: a key of `invkit.data.exam.EXAMS`.
        key: what tells it from other series, wherever it lies.
        role: full or low dose; `None` where nothing says.
        told_by: what says so.
        rest: the words of a name that a partner of another dose shares.
        dose: of low dose, where the data set states it.
        slices: the slices.
        source: number of the path it was found below.
        root: that path.
    """

    patient: str
    public: bool
    exam: str
    key: str
    role: Role | None
    told_by: str
    rest: str
    dose: float | None
    slices: tuple[SliceInfo, ...]
    source: int
    root: Path

    @property
    def first(self) -> SliceInfo:
        """The first slice."""
        return self.slices[0]

    @property
    def step(self) -> float | None:
        """The usual distance between slices, mm; `None` where it is not known."""
        steps = [after - before for before, after in pairwise(self.positions)]
        return median_low(steps) if steps else None

    @property
    def positions(self) -> list[float]:
        """The positions that are known, growing, mm."""
        return [item.position for item in self.slices if item.position is not None]

    def gaps(self) -> list[tuple[float, float, int]]:
        """Return (start, stop, missing slices) where it skips more than half a step, mm."""
        usual = self.step
        if usual is None:
            return []
        places = [
            (before, after) for before, after in pairwise(self.positions) if after - before > 1.5 * usual
        ]
        return [(before, after, round((after - before) / usual) - 1) for before, after in places]


@dataclass(frozen=True)
class Found:
    """All series below some paths, and what was passed over."""

    series: tuple[Series, ...]
    skipped: tuple[Skip, ...]


def find_series(paths: Sequence[str | Path] = (), *, rescale: tuple[float, float] | None = None) -> Found:
    """Find the series below paths by the headers of their files.

    Args:
        paths: each a file or folder, or `FULL,LOW` for two of them; `"ldct"`, or no path at all, for the folder that
            the environment variable `LDCTBENCH_DATAFOLDER` names.
        rescale: slope and intercept by the user's word, taken where a DICOM file lacks them.

    Raises:
        DataError: a path does not exist.
        UsageError: the environment names no folder, or the rescale is impossible.
    """
    if rescale is not None and not (rescale[0] != 0 and all(abs(value) < 1e6 for value in rescale)):
        raise UsageError(f"a rescale is a slope other than 0 and an intercept, got {rescale}")
    series: list[Series] = []
    skipped: list[Skip] = []
    seen: set[tuple[str, Role | None]] = set()
    named = [(Path(path), _roots(path)) for path in paths or (LDCT,)]
    for number, (spec, roots) in enumerate(named):
        groups: dict[tuple[object, ...], list[tuple[SliceInfo, _Place]]] = {}
        for root, role in roots:
            for file, folders in _files(root, skipped):
                try:
                    infos = _infos(file, root, rescale)
                except ImageError as error:
                    skipped.append(Skip(below(file, root), str(error)))
                    continue
                for info in infos:
                    place = _placed(info, folders, role)
                    if (info.copy, place.role) in seen:
                        skipped.append(Skip(below(file, root), "is a copy of a slice that is already there"))
                        continue
                    if info.copy:
                        seen.add((info.copy, place.role))
                    groups.setdefault(_group(info, place), []).append((info, place))
        series += [_series(key, members, number, spec, skipped) for key, members in groups.items()]
    return Found(
        tuple(sorted(series, key=lambda item: (item.source, item.patient, item.key))), tuple(skipped)
    )


def _roots(spec: str | Path) -> list[tuple[Path, Role | None]]:
    path = Path(spec)
    if str(spec) == LDCT and not path.exists():
        folder = os.environ.get("LDCTBENCH_DATAFOLDER")
        if not folder:
            raise UsageError(f"give the data: a path, or a folder in the environment variable {LDCT_FOLDER}")
        path = Path(folder)
    if path.exists():
        return [(path, None)]
    text = str(path)
    for place in (index for index, letter in enumerate(text) if letter == ","):
        full, low = Path(text[:place]), Path(text[place + 1 :])
        if full.exists() and low.exists():
            return [(full, "full"), (low, "low")]
    raise DataError(f"{shown(path)} does not exist. Give a file or folder, or two of them as FULL,LOW")


def _files(root: Path, skipped: list[Skip]) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Yield every file below a path, and the names of the folders above it from the path's own on."""
    if not root.is_dir():
        yield root, (root.absolute().parent.name,)
        return
    if is_cache(root):
        raise DataError(f"{shown(root.name)} is a cache already: give it as --train-data")
    name = root.resolve().name
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        folders.sort()
        for inner in list(folders):
            if is_cache(here / inner):
                skipped.append(Skip(below(here / inner, root), "is a cache that invkit prepared"))
                folders.remove(inner)
            elif dose_words(inner) and "projection" in inner.lower():
                # Millions of files in LDCT-and-Projection-data, none of which is worth a look.
                skipped.append(Skip(below(here / inner, root), "holds projections, not slices"))
                folders.remove(inner)
        inside = here.relative_to(root).parts
        for file in sorted(files):
            yield here / file, (name, *inside)


def _infos(path: Path, root: Path, rescale: tuple[float, float] | None) -> list[SliceInfo]:
    return array_info(path, root) if is_array(path) else dicom_info(path, rescale=rescale)


@dataclass(frozen=True)
class _Place:
    """Whose slice it is and of which dose, from the folders above it."""

    patient: str
    public: str | None
    role: Role | None
    told_by: str
    words: Words | None


def _placed(info: SliceInfo, folders: tuple[str, ...], forced: Role | None) -> _Place:
    # A path can be named that lies inside of a patient's folder.
    above = info.file.absolute().parents[: len(folders) + 2]
    public = public_id(tuple(folder.name for folder in reversed(above)))
    patient = public or (info.series if info.patient == "unknown" else info.patient)
    words = next((found for name in reversed(folders) if (found := dose_words(name))), None)
    if forced is not None:
        return _Place(patient, public, forced, "the call", words)
    if words is not None:
        return _Place(patient, public, words.role, "a folder's name", words)
    if info.words is not None:
        told_by = "the file's name" if is_array(info.file) else "the series' description"
        return _Place(patient, public, info.words.role, told_by, info.words)
    return _Place(patient, public, None, "", None)


def _group(info: SliceInfo, place: _Place) -> tuple[object, ...]:
    """Return what the slices of one series share."""
    spacing = info.spacing and tuple(round(value, 5) for value in info.spacing)
    # Turned by a thousandth is still the same plane.
    plane = info.plane and tuple(round(value, 3) + 0.0 for value in info.plane[:6])
    size = (info.rows, info.cols)
    return (
        place.patient,
        info.series,
        place.role or "",
        place.words and place.words.rest,
        size,
        spacing,
        plane,
        info.kernel,
    )


def _series(
    key: tuple[object, ...],
    members: list[tuple[SliceInfo, _Place]],
    source: int,
    root: Path,
    skipped: list[Skip],
) -> Series:
    place = members[0][1]
    kept: list[SliceInfo] = []
    for info in sorted((member[0] for member in members), key=lambda item: item.order):
        last = kept[-1].position if kept else None
        if last is not None and info.position is not None and info.position - last < SAME_PLACE:
            skipped.append(Skip(below(info.file, root), "is a second slice at the position of another one"))
        else:
            kept.append(info)
    parts = [info.exam for info in kept]
    return Series(
        patient=place.patient,
        public=place.public is not None,
        exam=exam_of(place.public, None) if place.public else max(sorted(set(parts)), key=parts.count),
        key=repr(key),
        role=place.role,
        told_by=place.told_by,
        rest=place.words.rest if place.words else "",
        dose=stated_dose(place.public, place.words) if place.words else None,
        slices=tuple(kept),
        source=source,
        root=root.absolute(),
    )


def below(path: Path, root: Path) -> str:
    """Return what to show of a path: its part below the one that was named, else its name and its folder's."""
    if path == root:
        return shown(path.name)
    inside = path.is_relative_to(root)
    return shown((path.relative_to(root) if inside else Path(path.parent.name, path.name)).as_posix())
