"""The report on a series: one row a slice, what they come to together, and a few slices to look at."""

__all__ = ["SeriesPage", "write_series"]

import base64
import csv
import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from invkit.artifacts import write_atomic
from invkit.measures.table import SLICES, Figure, shown_at
from invkit.report.data import plain
from invkit.report.table import figure, rows

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class SeriesPage:
    """What the report on a series shows.

    Args:
        model: name of the denoiser.
        layers: as the user named them.
        image: which images these are.
        slices: one entry a slice, as in `invkit.series/1`.
        metrics: for each layer, its figures over all slices.
        answer: what the slices come to, in sentences.
        warnings: each with the number of slices that it was said of.
        shown: indices of the slices whose figures are in the report.
        command: a command line that makes it again.
        others: what is known of the figures of plugins' metrics.
    """

    model: str
    layers: Sequence[str]
    image: str
    slices: Sequence[Mapping[str, Any]]
    metrics: Mapping[str, Mapping[str, Any]]
    answer: Sequence[str]
    warnings: Mapping[str, int]
    shown: Sequence[int]
    command: str = ""
    others: Sequence[Figure] = ()


def write_series(folder: Path, page: SeriesPage) -> tuple[Path, ...]:
    """Write `report.html` and `series.csv` to a folder; return both.

    Raises:
        ResourceError: they cannot be written.
    """
    table, report = folder / "series.csv", folder / "report.html"
    write_atomic(table, _table(page).encode())
    write_atomic(report, _html(folder, page).encode())
    return table, report


def _html(folder: Path, page: SeriesPage) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, finalize=_clean
    )
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    tables, columns = [], shown_at(SLICES)
    for layer in page.layers:
        metrics = [one["layers"][layer]["metrics"] for one in page.slices]
        present = [key for key in columns if figure(page.metrics[layer], key)]
        tables.append(
            {
                "layer": layer,
                "headings": [columns[key].heading for key in present],
                "slices": [
                    (one["slice"], one["report"], [_value(values, key) for key in present])
                    for one, values in zip(page.slices, metrics, strict=True)
                ],
                "together": [_value(page.metrics[layer], key) for key in present],
                "rows": rows(page.metrics[layer], page.others),
            }
        )
    text = environment.get_template("series.html.jinja").render(
        page=page,
        style=Markup(style),
        style_hash=digest,
        tables=tables,
        pictures=[
            (page.slices[index]["slice"], _picture(folder / page.slices[index]["folder"]))
            for index in page.shown
        ],
        title=f"{page.model}, layer{'s' if len(page.layers) > 1 else ''} {', '.join(page.layers)}",
    )
    return text + "\n"


def _value(metrics: Mapping[str, Any], key: str) -> str:
    found = figure(metrics, key)
    return "" if found is None else found.text()


def _picture(folder: Path) -> str:
    """Return the figure of a slice's report as a data address: the certified samples where there are enough."""
    for name in ("certified", "samples"):
        path = folder / "figures" / f"{name}.png"
        if path.is_file():
            return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    return "data:,"


def _table(page: SeriesPage) -> str:
    """Return one row for each slice and layer, with all figures that are numbers, as CSV."""
    found = []
    for one in page.slices:
        for layer in page.layers:
            values = dict(_numbers(one["layers"][layer]["metrics"], ""))
            found.append({"slice": one["slice"], "layer": layer, **values})
    headings = list(dict.fromkeys(key for row in found for key in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, headings, lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return stream.getvalue()


def _numbers(metrics: Mapping[str, Any], path: str) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for key, value in metrics.items():
        name = f"{path}.{key}" if path else key
        if isinstance(value, Mapping):
            found += _numbers(value, name)
        elif isinstance(value, int | float) and math.isfinite(value):
            found.append((name.removesuffix(".value"), value))
    return found


def _clean(value: object) -> object:
    return value if isinstance(value, Markup | int | float) else plain(value)
