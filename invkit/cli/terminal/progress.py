"""How a training's progress is shown: a bar on a terminal, now and then a line elsewhere; always on standard error."""

from __future__ import annotations

__all__ = ["TextProgress"]

import sys
import time
from typing import TYPE_CHECKING

from invkit.cli.terminal.console import coloured, say

if TYPE_CHECKING:
    from invkit.training.progress import ProgressEvent

EVERY = 20.0  # seconds between lines where there is no terminal
WIDTH = 24


class TextProgress:
    """Shows progress events; the bar is redrawn in place at most ten times a second."""

    def __init__(self) -> None:
        self._live = coloured(sys.stderr)
        self._last = -1e9
        self._stage = ""
        self._open = False

    def __call__(self, event: ProgressEvent) -> None:
        """Show one event."""
        now = time.monotonic()
        done = event.steps > 0 and event.step >= event.steps
        new = event.stage != self._stage
        if not (done or new) and now - self._last < (0.1 if self._live else EVERY):
            return
        if not self._live and done and not new and now - self._last < 1.0:
            return
        self._last, self._stage = now, event.stage
        text = self._text(event)
        if not self._live:
            say(text)
            return
        sys.stderr.write(f"\r\x1b[K{text}")
        self._open = True
        if done:
            self.close()
        sys.stderr.flush()

    def close(self) -> None:
        """End the line of an unfinished bar."""
        if self._open:
            sys.stderr.write("\n")
            self._open = False

    def _text(self, event: ProgressEvent) -> str:
        parts = [event.stage]
        if event.steps > 0:
            filled = round(WIDTH * event.step / event.steps)
            if self._live:
                parts.append("#" * filled + "." * (WIDTH - filled))
            parts.append(f"{event.step}/{event.steps}")
        if event.seconds_left:
            parts.append(f"{_duration(event.seconds_left)} left")
        return "  ".join(parts)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
