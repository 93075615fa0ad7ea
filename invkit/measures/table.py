"""Every figure of a layer: its key in JSON, what people call it, its unit and meaning, and where it is shown.

`figures.csv` beside this module is that table; terminal, report, CSV and docs take it from here. A new figure needs what measures
it, which gives it its key, and a line there.
"""

__all__ = ["LAYERS", "NATS", "SLICES", "TERMINAL", "TILES", "Figure", "known", "shown_at"]

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

NATS = "nats/dim"
TERMINAL, TILES, LAYERS, SLICES = "terminal", "tiles", "layers", "slices"


@dataclass(frozen=True)
class Figure:
    """One figure.

    Args:
        key: dotted, as in `invkit analyze --json`.
        label: what people call it.
        unit: of the number; empty where it has none.
        meaning: one line.
        places: where it is shown besides the table of all figures: on the `terminal`, as one of the report's `tiles`, in the
            overviews of several `layers` or `slices`.
        heading: of its column there.
    """

    key: str
    label: str
    unit: str = ""
    meaning: str = ""
    places: tuple[str, ...] = ()
    heading: str = ""


@cache
def _table() -> Mapping[str, Figure]:
    text = files("invkit.measures").joinpath("figures.csv").read_text(encoding="utf-8")
    rows = [
        Figure(
            row["key"],
            row["label"],
            row["unit"],
            row["meaning"],
            tuple(row["places"].split()),
            row["heading"],
        )
        for row in csv.DictReader(text.splitlines())
    ]
    return MappingProxyType({row.key: row for row in rows})


def known(others: Iterable[Figure] = ()) -> dict[str, Figure]:
    """Return all figures by key, in the order in which they are shown.

    Args:
        others: of plugins' metrics.
    """
    return {**_table(), **{figure.key: figure for figure in others}}


def shown_at(place: str) -> dict[str, Figure]:
    """Return the figures that are shown at a place, by key."""
    return {key: figure for key, figure in _table().items() if place in figure.places}
