"""The result in the terminal: verdict, figures, provenance, and where the report lies."""

__all__ = ["print_report"]

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from invkit.measures.table import TERMINAL, Figure, known, shown_at
from invkit.report.data import plain, title
from invkit.report.table import overview, references, rows, unknown_figures

# Of an overview, what is left out on a terminal until the rest fits.
LEFT_OUT = ("Fiber error",)


def _text(text: object, style: str = "") -> Text:
    """Return a text that rich prints as it is: no markup, no control characters, no highlighting."""
    return Text(plain(text), style=style)


def print_report(
    described: Mapping[str, Any],
    console: Console | None = None,
    report: Path | None = None,
    *,
    others: Iterable[Figure] = (),
) -> None:
    """Print one analysis as tables; plain text where the console is no terminal.

    Args:
        described: what `report.json` holds.
        console: where to print; standard output by default.
        report: path of the written report, named on the last line.
        others: what is known of the figures of plugins' metrics.
    """
    console = console or Console()
    layers = [(layer["key"], layer["metrics"]) for layer in described["layers"]]
    console.print(_text(title(described["model"], [name for name, _ in layers]), "bold"))
    console.print(_text(described["image"], "dim"))
    if described["warnings"]:
        console.print()
    for warning in described["warnings"]:
        console.print(Text.assemble(("Warning: ", "bold yellow"), _text(warning)))
    console.print()
    for sentence in described["verdict"]:
        console.print(_text(sentence))
    if described["said_of_samples"]:
        console.print()
        console.print(_text(described["samples_title"], "bold"))
    for sentence in described["said_of_samples"]:
        console.print(_text(sentence))
    if len(layers) > 1:
        console.print(_table(*_brief(*overview(layers), console.width)))
        headings, table = unknown_figures(layers, others)
        if table:
            console.print(_table(headings, table))
    else:
        ((_, metrics),) = layers
        headings, table = references(metrics)
        if table:
            console.print(_table(headings, table))
        short, table_of_all = shown_at(TERMINAL), known()
        found = [row for row in rows(metrics, others) if row.key in short or row.key not in table_of_all]
        console.print(_table(["Figure", "Value [95 % interval]"], [[row.label, row.value] for row in found]))
    for line in described["provenance"]:
        console.print(Padding(_text(line, "dim"), (0, 0, 0, 1)))
    if report is not None:
        if described["provenance"]:
            console.print()
        # a path that is broken over two lines cannot be clicked or copied
        console.print(Text.assemble(("Report: ", "bold"), _text(report)), soft_wrap=True)


def _brief(headings: list[str], lines: list[list[str]], width: int) -> tuple[list[str], list[list[str]]]:
    """Return what of an overview fits on a terminal: no interval but the first figure's, in one word, and not every column."""
    cut = []
    for line in lines:
        value, _, interval = line[1].partition(" [")
        between = interval.rstrip("]").replace(", ", "-")
        cut.append([line[0], value, between, *(text.partition(" [")[0] for text in line[2:])])
    columns = list(zip([*headings[:2], "95 %", *headings[2:]], *cut, strict=True))
    for heading in LEFT_OUT:
        taken = 2 + sum(
            2 + max((len(word) for text in column for word in text.split()), default=0) for column in columns
        )
        if taken <= width:
            break
        columns = [column for column in columns if column[0] != heading]
    return [heading for heading, *_ in columns], [
        list(line) for line in zip(*(cells for _, *cells in columns), strict=True)
    ]


def _table(headings: list[str], lines: list[list[str]]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for index, heading in enumerate(headings):
        words = [line[index] for line in lines]
        # Words are not broken: neither those of a heading, nor cells that are as long as it.
        fixed = not any(" " in word for word in words) and len(heading) <= max(map(len, words), default=0)
        longest = min(max(map(len, heading.split()), default=1), 10)
        table.add_column(_text(heading), overflow="fold", no_wrap=fixed, min_width=longest)
    for line in lines:
        table.add_row(*(_text(cell) for cell in line))
    return table
