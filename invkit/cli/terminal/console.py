"""What the command line prints: data on standard output, all else on standard error, no markup."""

from __future__ import annotations

__all__ = [
    "coloured",
    "data_on_stdout",
    "data_stream",
    "data_to",
    "emit_json",
    "emit_table",
    "emit_text",
    "plain",
    "say",
    "say_error",
]

import contextlib
import json
import os
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, TextIO

_data: ContextVar[TextIO | None] = ContextVar("data", default=None)


@contextlib.contextmanager
def data_on_stdout() -> Iterator[None]:
    """Keep standard output for the `emit_` functions; what else is printed goes to standard error.

    A plugin may print while it is imported, built or run, and must not break the JSON of a command.
    """
    with data_to(sys.stdout), contextlib.redirect_stdout(sys.stderr):
        yield


@contextlib.contextmanager
def data_to(stream: TextIO) -> Iterator[None]:
    """Let the `emit_` functions write to `stream`."""
    token = _data.set(stream)
    try:
        yield
    finally:
        _data.reset(token)


def emit_json(schema: str, values: Mapping[str, Any]) -> None:
    """Print one JSON object, alone on standard output; `schema` names its form, e.g. `"invkit.models/1"`."""
    stated = {"schema": schema, **values} | {
        "schema": schema
    }  # ours, also where a file's own is among the values
    _write(json.dumps(stated, indent=2, allow_nan=False, default=dict))


def emit_text(text: str) -> None:
    """Print data as text."""
    _write(plain(text))


def emit_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; on a terminal it is fitted to the width, elsewhere no cell is wrapped or cut."""
    stream = data_stream()
    if not coloured(stream):
        cells: list[list[str]] = [
            list(columns),
            *([plain(cell).replace("\n", " ") for cell in row] for row in rows),
        ]
        widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
        for line in cells:
            _write("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    Console(file=stream, highlight=False).print(table)


def data_stream() -> TextIO:
    """Return where data go: what standard output was before a command began."""
    return _data.get() or sys.stdout


def say(text: str) -> None:
    """Print a remark on standard error."""
    print(plain(text), file=sys.stderr)


def say_error(text: str) -> None:
    """Print an error on standard error, its label in red where that is wanted."""
    label = "\x1b[1;31mError:\x1b[0m" if coloured(sys.stderr) else "Error:"
    print(f"{label} {plain(text)}", file=sys.stderr)


def plain(text: str) -> str:
    r"""Return text with control characters and invisible marks spelled out, e.g. `\x1b`; newlines stay.

    Names, tags and plugin texts come from strangers: an escape code in them could rewrite the terminal.
    """
    return "".join(
        c if c == "\n" or unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} else escaped(c)
        for c in text
    )


def escaped(character: str) -> str:
    """Return a character as Python writes it in a string."""
    return character.encode("unicode_escape").decode("ascii")


def coloured(stream: TextIO) -> bool:
    """Return whether a stream is a terminal whose user did not ask for plain text (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _write(text: str) -> None:
    stream = data_stream()
    stream.write(f"{text}\n")
    stream.flush()
