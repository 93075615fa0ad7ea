"""`invkit analyze` on several slices: what is printed."""

from __future__ import annotations

__all__ = ["show_series"]

from typing import TYPE_CHECKING, Any

from invkit.cli.terminal.console import emit_json, emit_table, emit_text

if TYPE_CHECKING:
    from invkit.analysis.series import SeriesResult


def show_series(result: SeriesResult, json: bool) -> None:
    """Print the figures of every slice and of all, and where the report lies."""
    from invkit.measures.table import SLICES, shown_at
    from invkit.statistics.intervals import number
    from invkit.statistics.pooling import leaves

    if json:
        found = result.to_json()
        places = {"run": str(result.folder.resolve()), "report": str(result.report.resolve())}
        emit_json(found.pop("schema"), {**found, **places})
        return

    columns = shown_at(SLICES)

    def row(name: str, layer: str, metrics: dict[str, Any]) -> tuple[str, ...]:
        figures = dict(leaves(metrics))
        return name, layer, *(number(figures[key]) if key in figures else "" for key in columns)

    rows = [
        row(str(one["slice"]), layer, one["layers"][layer]["metrics"])
        for one in result.slices
        for layer in result.layers
    ]
    rows += [row("all", layer, result.metrics[layer]) for layer in result.layers]
    emit_table(("slice", "layer", *(of.heading for of in columns.values())), rows)
    for sentence in result.answer:
        emit_text(sentence)
    for warning, count in result.warnings.items():
        emit_text(f"Warning ({count} of {len(result)} slices): {warning}")
    emit_text(str(result.report.resolve()))
