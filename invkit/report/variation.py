"""Tables of single images and of structures: certificates, and what becomes of structures."""

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
    """Return the table of what is known of each image drawn; none where nothing was.

    Args:
        certificates: rows as under `certificates` of `invkit analyze --json`, of one image.
    """
    if not certificates:
        return []
    shown = certificates[:SHOWN]
    some = f", the first {len(shown)} of {len(certificates)}" if len(shown) < len(certificates) else ""
    return [
        VariationTable(
            f"Certificates of the images drawn{some}: distances in repeat scans, changes of images in HU",
            ("Image", "Certified", "Distance", "Change of f", "Distance from x", "Steps", "Products with J"),
            tuple(
                (
                    str(row["sample"] + 1),
                    "yes" if row["certified"] else "no",
                    number(row["distance"]),
                    number(row["f_error_hu"]),
                    number(row["moved_hu"]),
                    str(row["steps"]),
                    str(row["products"]),
                )
                for row in shown
            ),
        )
    ]


def variation_tables(metrics: Mapping[str, Any]) -> list[VariationTable]:
    """Return the tables for a layer's figures; none where nothing was refined.

    Args:
        metrics: figures under the keys of `invkit analyze --json`.
    """
    structures = metrics.get("structures") or ()
    worst = metrics.get("worst_case") or ()
    return [
        *(_structures(structures, metrics) if structures else []),
        *([_worst(worst, metrics)] if worst else []),
    ]


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


def _worst(found: Sequence[Mapping[str, Any]], metrics: Mapping[str, Any]) -> VariationTable:
    def band(row: Mapping[str, Any]) -> str:
        length = row["cycles_per_mm"]
        return f"{number(row['cycles_per_px'])}" + ("" if length is None else f" ({number(length)} per mm)")

    return VariationTable(
        f"The strongest low-pass change that hides at a tolerance of {number(metrics['tolerance']['value'])} repeat scans, "
        "root mean square",
        ("Cycles per pixel, up to", "Hidden, HU", "(image)", "Bounded by"),
        tuple(
            (band(row), _text(row["hidden_hu"]), _text(row["identity_hidden_hu"]), row["bounded_by"])
            for row in found
        ),
    )


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


def _text(value: Any) -> str:
    return "" if value is None else Interval.of(value).text()
