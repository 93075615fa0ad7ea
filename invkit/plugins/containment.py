"""Runs code of a plugin so that nothing it does ends the process or reaches our standard output."""

from __future__ import annotations

__all__ = ["Outcome", "attempt", "describe_error"]

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
LIMIT = 500


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What a call gave: its value, or the error in one line; and what it printed."""

    value: T | None
    error: str = ""
    printed: str = ""


def attempt(call: Callable[[], T]) -> Outcome[T]:
    """Call a plugin's function and contain what it raises and prints, `sys.exit` included; Ctrl-C passes."""
    stream = io.StringIO()
    value: T | None = None
    error = ""
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        try:
            value = call()
        except KeyboardInterrupt:
            raise
        except BaseException as raised:
            error = describe_error(raised)
    return Outcome(value, error, stream.getvalue()[:LIMIT])


def describe_error(error: BaseException) -> str:
    """Return an error as one line of limited length, whatever its `__str__` does."""
    if isinstance(error, SystemExit):
        return f"it called sys.exit({error.code!r:.60})"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"it needs the module {error.name!r}, which is not installed"
    try:
        message = " ".join(str(error).split())
    except Exception:
        message = "(its message cannot be shown)"
    return f"{type(error).__name__}: {message}"[:LIMIT]
