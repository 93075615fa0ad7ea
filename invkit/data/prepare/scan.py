"""What lies below some paths, for people and programs: series, doses, partners, gaps, what was skipped and why."""

__all__ = ["SCHEMA", "ScanReport", "scan"]

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from invkit.data.dicom.info import SliceInfo
from invkit.data.exam import EXAMS, Role
from invkit.data.prepare.arrays import is_array
from invkit.data.prepare.layouts import Found, Series, find_series
from invkit.data.prepare.pairs import Arrangement, arrange
from invkit.errors import DataError

SCHEMA = "invkit.scan/1"


@dataclass(frozen=True, eq=False)
class ScanReport:
    """What a scan found.

    Patients have their public id or a number, series a number; nothing else of a patient can be had from here.

    Args:
        found: all series.
        arrangement: which of them are partners, and which are used alone.
    """

    found: Found
    arrangement: Arrangement

    @cached_property
    def patients(self) -> dict[str, str]:
        """The names to show of all patients that are used."""
        owners = [row.owner for row in self._used]
        hidden = sorted({owner.patient for owner in owners if not owner.public})
        numbers = {patient: f"patient-{number:03d}" for number, patient in enumerate(hidden, 1)}
        return {owner.patient: numbers.get(owner.patient, owner.patient) for owner in owners}

    def describe(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        rows = self._rows()
        exams = {row["patient"]: row["exam"] for row in rows}
        full, low = (sum(row["slices"] for row in rows if row["dose"] == dose) for dose in ("full", "low"))
        return {
            "patients": len(self.patients),
            "series": len(rows),
            "slices": full + low,
            "pairs": sum(len(pair.slices) for pair in self.arrangement.pairs),
            "doses": {"full": full, "low": low},
            "exams": dict(sorted(Counter(exams.values()).items())),
            "kernels": sorted({row["kernel"] for row in rows if row["kernel"]}),
            "spacings": sorted({tuple(row["spacing"]) for row in rows if row["spacing"]}),
            "layouts": sorted({row["layout"] for row in rows}),
            "gaps": [
                {
                    "patient": row["patient"],
                    "series": row["name"],
                    "start": start,
                    "stop": stop,
                    "missing": missing,
                }
                for row, used in zip(rows, self._used, strict=True)
                for start, stop, missing in used.series.gaps()
            ],
            "skipped": [{"file": skip.file, "reason": skip.reason} for skip in self.arrangement.skipped],
            "details": rows,
        }

    def _rows(self) -> list[dict[str, Any]]:
        names = {id(row.series): f"series-{number:03d}" for number, row in enumerate(self._used, 1)}
        rows = []
        for row in self._used:
            first, slices = row.series.first, row.series.slices
            rows.append(
                {
                    "name": names[id(row.series)],
                    "patient": self.patients[row.owner.patient],
                    "exam": EXAMS[row.owner.exam],
                    "dose": row.role,
                    "told_by": row.told_by,
                    "partner": None if row.partner is None else names[id(row.partner)],
                    "fraction": row.fraction,
                    "layout": _layout(row.series),
                    "slices": len(slices),
                    "size": [first.rows, first.cols],
                    "spacing": None if first.spacing is None else list(first.spacing),
                    "step": row.series.step,
                    "thickness": first.thickness,
                    "kernel": first.kernel,
                    **{
                        name: _usual(slices, name) for name in ("kvp", "tube_current", "exposure", "ctdi_vol")
                    },
                }
            )
        return rows

    @cached_property
    def _used(self) -> "list[_Used]":
        return sorted(
            self._listed(), key=lambda row: (not row.owner.public, row.owner.patient, row.series.key)
        )

    def _listed(self) -> "Iterator[_Used]":
        for pair in self.arrangement.pairs:
            yield _Used(pair.full, pair.full, "full", pair.low, None, pair.told_by)
            yield _Used(pair.low, pair.full, "low", pair.full, pair.dose, pair.told_by)
        for single in self.arrangement.singles:
            yield _Used(single, single, "full", None, None, single.told_by)


@dataclass(frozen=True, eq=False)
class _Used:
    """A series that is used; its patient is that of `owner`, the series at full dose."""

    series: Series
    owner: Series
    role: Role
    partner: Series | None
    fraction: float | None
    told_by: str


def scan(paths: Sequence[str | Path] = (), *, rescale: tuple[float, float] | None = None) -> ScanReport:
    """Find out what lies below paths; of a file only the header is read, unless the headers do not tell the doses.

    Args:
        paths: as for `find_series`.
        rescale: slope and intercept by the user's word, taken where a DICOM file lacks them.

    Raises:
        DataError: there is no such path, or no slice that can be used; the message gives the commonest reasons.
        UsageError: the environment names no folder, or the rescale is impossible.
    """
    found = find_series(paths, rescale=rescale)
    arrangement = arrange(found, rescale=rescale)
    if not arrangement.pairs and not arrangement.singles:
        counts = Counter(skip.reason for skip in arrangement.skipped)
        listed = "; ".join(f"{count} x: {reason}" for reason, count in counts.most_common(3)) or "no file"
        raise DataError(f"there is no usable CT slice at full dose ({listed})")
    return ScanReport(found, arrangement)


def _layout(series: Series) -> str:
    if series.public:
        return "ldct-and-projection-data" if "images" in series.rest else "challenge-2016"
    if series.told_by == "the call":
        return "pair"
    return "arrays" if is_array(series.first.file) else "folder"


def _usual(slices: Sequence[SliceInfo], name: str) -> float | None:
    values = [value for item in slices if (value := getattr(item, name)) is not None]
    return median(values) if values else None
