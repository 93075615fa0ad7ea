"""The rows of the tables of figures: which figure, its value with interval and unit, and what it means."""

__all__ = ["Row", "figure", "overview", "references", "rows", "unknown_figures", "write_csv"]

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from invkit.errors import InputError
from invkit.measures.table import LAYERS, NATS, Figure, known, shown_at
from invkit.report.data import LayerFigures
from invkit.statistics.intervals import Interval
from invkit.statistics.tree import leaves
from invkit.verdict.measures import REFERENCES

# shown in tables of their own
ELSEWHERE = ("ladder.eta.", "ladder.f_error_hu.")


@dataclass(frozen=True)
class Row:
    """One figure for people."""

    key: str
    label: str
    value: str
    meaning: str


def figure(metrics: Mapping[str, Any], key: str) -> Interval | None:
    """Return the figure under a dotted key as an interval, or `None` where there is none."""
    value = dict(leaves(metrics)).get(key)
    return None if value is None or isinstance(value, str | bool | list) else _interval(key, value)


def _interval(key: str, value: Any) -> Interval:
    try:
        return Interval.of(value)
    except (TypeError, ValueError, KeyError):
        raise InputError(f"metric {key!r} must be a number or {{value, low, high}}, got {value!r}") from None


def rows(metrics: Mapping[str, Any], others: Iterable[Figure] = ()) -> list[Row]:
    """Return all figures of a layer, known ones first and in the order of their table, others under their own key.

    Args:
        metrics: figures by their keys.
        others: what is known of plugins' metrics.
    """
    table = known(others)
    found = {key: value for key, value in leaves(metrics) if key in table or not key.startswith(ELSEWHERE)}
    keys = [key for key in table if key in found] + [key for key in found if key not in table]
    return [
        Row(key, of.label, _bound(found, key) + _text(of, found[key]), of.meaning)
        for key in keys
        for of in [_about(table, key)]
    ]


def write_csv(layers: Sequence[LayerFigures], others: Iterable[Figure] = ()) -> str:
    """Return one row for each layer and figure: key, label, unit, value, the bounds of its interval if any, and meaning."""
    stream, table = io.StringIO(), known(others)
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["layer", "key", "label", "unit", "value", "low", "high", "meaning"])
    for layer in layers:
        for key, value in leaves(layer.metrics):
            of = _about(table, key)
            if isinstance(value, str | bool | list):
                texts: list[object] = ["; ".join(value) if isinstance(value, list) else value, "", ""]
            else:
                interval = _interval(key, value)
                texts = [interval.value, *((interval.low, interval.high) if interval.known else ("", ""))]
            writer.writerow([layer.key, key, of.label, of.unit, *texts, of.meaning])
    return stream.getvalue()


def _about(table: Mapping[str, Figure], key: str) -> Figure:
    """Return what is known of a figure; of those of a plugin's metric that is a group, what is known of the group."""
    group = key.partition(".")[0]
    if key not in table and group in table:
        return Figure(
            key,
            f"{table[group].label}: {key.removeprefix(group + '.')}",
            table[group].unit,
            table[group].meaning,
        )
    return table.get(key) or Figure(key, key, "HU" if key.endswith("_hu") else "")


def _bound(found: Mapping[str, Any], key: str) -> str:
    """Return what stands before a figure that is a lower bound: it has `at_least` beside its `value`."""
    group, _, name = key.rpartition(".")
    return "at least " if name == "value" and found.get(f"{group}.at_least") is True else ""


def _text(of: Figure, value: Any) -> str:
    if isinstance(value, str | bool):
        return str(value)
    if isinstance(value, list):
        return ", ".join(str(one) for one in value) or "none"
    return _interval(of.key, value).text(of.unit, 3 if of.unit == NATS else None)


def references(metrics: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return headings and one row per reference, the nearest first, in three units; no rows where there are none."""
    table = []
    for name, what in REFERENCES.items():
        value = figure(metrics, f"fiber_error.{name}")
        if value is None:
            continue
        others = (figure(metrics, f"ladder.eta.{name}"), figure(metrics, f"ladder.f_error_hu.{name}"))
        texts = ["" if other is None else other.text() for other in (value, *others)]
        symbol = what.startswith(("f(", "x "))
        table.append((value.value, [what if symbol else what[0].upper() + what[1:], *texts]))
    headings = ["In place of x", "Distance / s_Phi", "Distance / eta", "Change of f, HU"]
    return headings, [row for _, row in sorted(table, key=lambda pair: pair[0])]


def unknown_figures(
    layers: Sequence[tuple[str, Mapping[str, Any]]], others: Iterable[Figure]
) -> tuple[list[str], list[list[str]]]:
    """Return headings and one row a figure of plugins' metrics, with one column a layer; no rows where there are none.

    Args:
        layers: key and figures of each.
        others: what is known of plugins' metrics.
    """
    own = known()
    found = {name: {row.key: row for row in rows(metrics, others)} for name, metrics in layers}
    keys = dict.fromkeys(key for table in found.values() for key in table if key not in own)
    table = []
    for key in keys:
        there = [found[name].get(key) for name, _ in layers]
        label = next(row.label for row in there if row is not None)
        table.append([label, *("" if row is None else row.value for row in there)])
    return ["Figure of a plugin", *(f"Layer {name}" for name, _ in layers)], table


def overview(layers: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[list[str], list[list[str]]]:
    """Return headings and one row a layer of the figures that decide, for analyses of several layers.

    Args:
        layers: key and figures of each.
    """
    columns = shown_at(LAYERS)
    present = [key for key in columns if any(figure(metrics, key) for _, metrics in layers)]
    table = []
    for name, metrics in layers:
        values, found = [figure(metrics, key) for key in present], dict(leaves(metrics))
        texts = [
            "" if value is None else _bound(found, key) + value.text()
            for key, value in zip(present, values, strict=True)
        ]
        table.append([name, *texts])
    return ["Layer", *(columns[key].heading for key in present)], table
