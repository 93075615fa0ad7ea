"""Tables of single samples and changes: certificates, changes of anatomy, and the contrast that a disc needs to be seen."""

__all__ = ["VariationTable", "certificate_tables", "variation_tables"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from invkit.statistics.intervals import Interval, number
from invkit.verdict.structures import MARKS

SHOWN = 16  # certificates


@dataclass(frozen=True)
class VariationTable:
    """A table with a caption.

    Args:
        caption: what it shows.
        headings: of its columns.
        rows: one text a cell.
    """

    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def certificate_tables(certificates: Sequence[Mapping[str, Any]]) -> list[VariationTable]:
    """Return the table of what is known of each refined sample; none where nothing was refined.

    Args:
        certificates: rows as under `certificates` of `invkit analyze --json`, of one image.
    """
    if not certificates:
        return []
    shown = certificates[:SHOWN]
    some = f", the first {len(shown)} of {len(certificates)}" if len(shown) < len(certificates) else ""
    return [
        VariationTable(
            f"Certificates of the refined samples{some}: distances in units of s_Phi, changes of images in HU",
            (
                "Sample",
                "Certified",
                "Distance before",
                "after",
                "Change of f",
                "Spread allowed by epsilon",
                "Moved by",
                "Steps",
                "Products with J",
                "Plausible",
            ),
            tuple(_certificate(row) for row in shown),
        )
    ]


def _certificate(row: Mapping[str, Any]) -> tuple[str, ...]:
    placed = row["plausibility"]
    return (
        str(row["sample"] + 1),
        "yes" if row["certified"] else "no",
        number(row["fiber_error_before"]),
        number(row["fiber_error"]),
        number(row["f_error_hu"]),
        _text(row["spread_epsilon_hu"]),
        number(row["moved_hu"]),
        str(row["steps"]),
        str(row["products"]),
        "" if placed is None else "yes" if placed["inside"] else "no",
    )


def variation_tables(metrics: Mapping[str, Any]) -> list[VariationTable]:
    """Return the tables for a layer's figures; none where nothing was refined.

    Args:
        metrics: figures under the keys of `invkit analyze --json`.
    """
    found = metrics.get("variation") or {}
    structures = metrics.get("structures") or ()
    window = found.get("window", {})
    where = (
        "" if window.get("whole", True) else f", on a window of {window['width']} x {window['height']} pixels"
    )
    tables = _structures(structures, metrics) if structures else []
    tables += [_changes(found["anatomy"], where)] if found.get("anatomy") else []
    tables += [_lesions(found["lesion"], where)] if found.get("lesion") else []
    return [table for table in tables if table.rows]


def _structures(found: Sequence[Mapping[str, Any]], metrics: Mapping[str, Any]) -> list[VariationTable]:
    """Return a table for each tissue; a structure of several contrasts has one row."""
    tolerance = metrics["tolerance"]
    tables = []
    for tissue in dict.fromkeys(row["tissue"] for row in found):
        here = [row for row in found if row["tissue"] == tissue]
        contrasts = list(dict.fromkeys(row["contrast_hu"] for row in here))
        together: dict[str, list[Mapping[str, Any]]] = {}
        for row in here:
            together.setdefault(_structure(row), []).append(row)
        what = "Discs" if all(row["kind"] == "disc" for row in here) else "Structures"
        kept = (
            ("Contrast kept by f",)
            if len(contrasts) == 1
            else tuple(f"Contrast kept by f, of {number(contrast)} HU" for contrast in contrasts)
        )
        tables.append(
            VariationTable(
                f"{what} in {tissue} at a tolerance of {number(tolerance['value'])} repeat scans "
                f"({MARKS[tolerance['mark']]}); in brackets what the image itself, known to the same tolerance, has",
                (
                    "Structure",
                    *kept,
                    "Detectability lost",
                    "(image)",
                    "Hidden contrast, HU",
                    "(image)",
                    "Hidden with noise, HU",
                    "(image)",
                ),
                tuple(
                    (
                        name,
                        *(_text(row["contrast_kept"]) for row in rows),
                        *(
                            _text(rows[0][key])
                            for key in (
                                "detectability_lost",
                                "identity_detectability_lost",
                                "hidden_hu",
                                "identity_hidden_hu",
                                "hidden_companion_hu",
                                "identity_hidden_companion_hu",
                            )
                        ),
                    )
                    for name, rows in together.items()
                ),
            )
        )
    return tables


def _structure(row: Mapping[str, Any]) -> str:
    """Return what a row of structures is about, with its size in pixels and mm."""
    disc = row["kind"] == "disc"
    pixels, length = (row[f"{'radius' if disc else 'size'}_{unit}"] for unit in ("px", "mm"))
    size = f"{number(pixels)} px" + ("" if length is None else f" ({number(length)} mm)")
    return {
        "disc": f"disc, radius {size}",
        "edge": f"edge, length {size}",
        "line_pair": f"line pairs, width {size}",
        "texture": f"texture, grain {size}",
    }[row["kind"]]


def _changes(anatomy: Mapping[str, Any], where: str) -> VariationTable:
    rows = [
        (
            change["label"],
            number(change["proposed_hu"]),
            _text(change["left_hu"]),
            _text(change["largest_hu"]),
            _text(change["allowed_hu"]),
            _text(change["scans_hu"]),
            f"{change['certified']} of {change['tried']}",
            "yes" if change["found"] else "no",
        )
        for change in anatomy["changes"]
    ]
    return VariationTable(
        f"Anatomical changes, refined to within {number(anatomy['epsilon'])}: remaining contrast in HU{where}",
        (
            "Change",
            "Proposed",
            "Remaining, mean",
            "Remaining, max.",
            "Allowed by epsilon",
            "Two scans",
            "Certified",
            "Found",
        ),
        tuple(rows),
    )


def _lesions(curves: Mapping[str, Any], where: str) -> VariationTable:
    columns: dict[str, dict[str, str]] = {}
    for name, curve in curves.items():
        for size in curve["sizes"]:
            beyond = "at least " if size["unseen"] >= 0.5 else ""
            length = size.get("radius_mm")
            radius = number(size["radius_px"]) + ("" if length is None else f" ({number(length)} mm)")
            columns.setdefault(radius, {})[name] = beyond + _text(size["contrast_hu"])
    names: Sequence[str] = list(curves)
    words = {"epsilon": "changes the layer by epsilon", "eta": "changes it as much as noise"}
    return VariationTable(
        f"Contrast in HU at which the layer detects a disc, by radius in pixels{where}",
        ("Radius", *(words.get(name, name) for name in names)),
        tuple((radius, *(cells.get(name, "") for name in names)) for radius, cells in columns.items()),
    )


def _text(value: Any) -> str:
    return "" if value is None else Interval.of(value).text()
