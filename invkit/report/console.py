"""The result in the terminal: verdict, figures, provenance, and where the report lies."""

__all__ = ["print_report"]

from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from invkit.measures.table import TERMINAL, known, shown_at
from invkit.report.data import ReportData, plain
from invkit.report.table import overview, references, rows

# Of an overview, what does not fit on a terminal.
LEFT_OUT = "Spread of f, HU"


def _text(text: object, style: str = "") -> Text:
    """Return a text that rich prints as it is: no markup, no control characters, no highlighting."""
    return Text(plain(text), style=style)


def print_report(data: ReportData, console: Console | None = None, report: Path | None = None) -> None:
    """Print one analysis as tables; plain text where the console is no terminal.

    Args:
        data: the analysis.
        console: where to print; standard output by default.
        report: path of the written report, named on the last line.
    """
    console = console or Console()
    console.print(_text(data.title, "bold"))
    console.print(_text(data.image, "dim"))
    if data.warnings:
        console.print()
    for warning in data.warnings:
        console.print(Text.assemble(("Warning: ", "bold yellow"), _text(warning)))
    console.print()
    for sentence in data.verdict:
        console.print(_text(sentence))
    if len(data.layers) > 1:
        console.print(_table(*_brief(*overview(data.layers))))
    else:
        headings, table = references(data.layers[0].metrics)
        if table:
            console.print(_table(headings, table))
        short, table_of_all = shown_at(TERMINAL), known()
        found = [
            row
            for row in rows(data.layers[0].metrics, data.others)
            if row.key in short or row.key not in table_of_all
        ]
        console.print(_table(["Figure", "Value [95 % interval]"], [[row.label, row.value] for row in found]))
    for line in data.provenance:
        console.print(Padding(_text(line, "dim"), (0, 0, 0, 1)))
    if report is not None:
        if data.provenance:
            console.print()
        # a path that is broken over two lines cannot be clicked or copied
        console.print(Text.assemble(("Report: ", "bold"), _text(report)), soft_wrap=True)


def _brief(headings: list[str], lines: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """Return what of an overview fits on a terminal: the first figure's interval in one word, no other, and not the spread of f."""
    kept = [index for index, heading in enumerate(headings) if index > 1 and heading != LEFT_OUT]
    cut = []
    for line in lines:
        value, _, interval = line[1].partition(" [")
        between = interval.rstrip("]").replace(", ", "-")
        cut.append([line[0], value, between, *(line[index].partition(" [")[0] for index in kept)])
    return [*headings[:2], "95 %", *(headings[index] for index in kept)], cut


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
