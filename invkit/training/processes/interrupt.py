"""Signals that ask a training to stop: noted, answered at the next safe point, and handed back afterwards."""

__all__ = ["Interrupted", "Interrupts", "interrupts"]

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from invkit.errors import InvkitError

# SIGUSR1 is what SLURM sends ahead of the end of a job's time.
STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))


class Interrupted(InvkitError):
    """A signal ended the work after a checkpoint; the same call resumes from there.

    `exit_code` is 130 after Ctrl-C and 143 after any other signal.
    """

    def __init__(self, number: int, message: str | None = None):
        self.signal = signal.Signals(number)
        self.exit_code = 130 if self.signal == signal.SIGINT else 143
        super().__init__(message or f"stopped by {self.signal.name}")


class Interrupts:
    """Holds the number of the first signal that came, or `None`."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Note a signal; a second Ctrl-C is not patient and raises `KeyboardInterrupt` at once."""
        if number == signal.SIGINT and self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is None or number == signal.SIGINT:
            self.signal = number


@contextmanager
def interrupts() -> Iterator[Interrupts]:
    """Note SIGINT, SIGTERM and SIGUSR1 in the object given; the old handlers come back at the end.

    Only the main thread may install handlers. In any other thread the object given never holds a signal.
    """
    received = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    previous: dict[int, Any] = {}
    try:
        for number in STOPPING:
            previous[number] = signal.signal(number, received.receive)
        yield received
    finally:
        for number, handler in previous.items():
            # `None` means that the handler was not installed from Python and cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
