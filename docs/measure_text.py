"""What figures of the pages are made of: a command's output, code blocks and tables."""

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

__all__ = ["fenced", "invkit", "table"]


def invkit(*words: str) -> str:
    """Run a command in an empty folder and return what it prints, without the folder's path."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "invkit", *words],
            cwd=folder,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        return done.stdout.replace(str(Path(folder).resolve()), "/home/you")


def fenced(kind: str, text: str) -> str:
    """Return a code block."""
    lines = "\n".join(line.rstrip() for line in text.strip().splitlines())
    return f"```{kind}\n{lines}\n```"


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [headings, ["---"] * len(headings), *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
