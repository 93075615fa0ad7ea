"""Whole commands against their budgets: starting up, and an analysis whose parts are all trained."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile

from timing import Row

__all__ = ["rows"]

ANALYZE = ("analyze", "--model", "yang2018", "--layer", "3")


def seconds(*words: str, processor: bool) -> float:
    """Run a command in an empty folder; return its processor time, or the time on the clock."""
    with tempfile.TemporaryDirectory() as folder:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        begin = os.times().elapsed
        subprocess.run(
            [sys.executable, "-m", "invkit", *words], cwd=folder, check=True, capture_output=True, text=True
        )
        elapsed = os.times().elapsed - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used if processor else elapsed


def budget(row: str, what: str, limit: float, *words: str, runs: int = 3, processor: bool = False) -> Row:
    """Time a command; the first run, which fills caches, does not count."""
    times = [seconds(*words, processor=processor) for _ in range(runs + 1)][1:]
    ours = statistics.median(times)
    unit = "s of processor time" if processor else "s"
    return Row(row, what, ours, f"budget of {limit:g} {unit}", limit, limit / ours, 1.0)


def rows() -> list[Row]:
    """Return all rows of this file."""
    return [
        budget("start-up", "invkit --help", 0.5, "--help", processor=True, runs=5),
        budget("analyze", f"invkit {' '.join(ANALYZE)}, its parts trained", 60, *ANALYZE, runs=2),
    ]
