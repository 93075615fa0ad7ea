"""Runs code of a plugin so that nothing it does ends the process or reaches our standard output."""

from __future__ import annotations

__all__ = ["Outcome", "attempt"]

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from invkit.errors import LONGEST, described

T = TypeVar("T")


class Printed(io.StringIO):
    """What a plugin prints; it cannot close it."""

    def close(self) -> None:
        """Stay open."""


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What a call gave: its value, or the error in one line; and what it printed."""

    value: T | None
    error: str = ""
    printed: str = ""


def attempt(call: Callable[[], T]) -> Outcome[T]:
    """Call a plugin's function and contain what it raises and prints, `sys.exit` included; Ctrl-C passes."""
    stream = Printed()
    value: T | None = None
    error = ""
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        try:
            value = call()
        except KeyboardInterrupt:
            raise
        except BaseException as raised:
            error = described(raised)
    return Outcome(value, error, stream.getvalue()[:LONGEST])
