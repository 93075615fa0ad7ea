"""Timing side by side: ours and a rival's in one process, in alternation, so that a busy machine slows both alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Row", "alternate", "share", "versus"]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        id: name of the row.
        what: what is timed.
        ours_s: median seconds of ours.
        rival: what it is held against, with its version.
        rival_s: median seconds of the rival, or the budget.
        ratio: rival_s / ours_s, the median over pairs of runs where both ran in alternation.
        target: the row holds where ratio >= target; `None` where the limit decides, and its share is the figure.
        share_of_limit: part of ours_s that matrix products or convolutions of the same shapes take alone, in the same run.
    """

    id: str
    what: str
    ours_s: float
    rival: str
    rival_s: float
    ratio: float
    target: float | None
    share_of_limit: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, and whether the row holds."""
        return {**asdict(self), "holds": self.target is None or self.ratio >= self.target}


def alternate(*ways: Callable[[], object], seconds: float, least: int = 5) -> list[list[float]]:
    """Run the ways in turn for about so many seconds, at least `least` times each, and return their times.

    Each runs twice unmeasured first. Every other round goes backwards: what ran just before changes what memory and threads cost.
    """
    for way in ways:
        way()
        way()
    times: list[list[float]] = [[] for _ in ways]
    gc.collect()
    end = time.perf_counter() + seconds
    while len(times[0]) < least or time.perf_counter() < end:
        order = list(zip(times, ways, strict=True))
        for kept, way in order if len(times[0]) % 2 == 0 else reversed(order):
            begin = time.perf_counter()
            way()
            kept.append(time.perf_counter() - begin)
    return times


def versus(
    row: str,
    what: str,
    ours: Callable[[], object],
    rivals: dict[str, Callable[[], object]],
    *,
    target: float | None,
    seconds: float = 20.0,
    least: int = 5,
) -> Row:
    """Time ours against rivals, and return the row against the fastest of them."""
    first, *others = alternate(ours, *rivals.values(), seconds=seconds, least=least)
    name, times = min(zip(rivals, others, strict=True), key=lambda item: statistics.median(item[1]))
    ratio = statistics.median(rival / own for own, rival in zip(first, times, strict=True))
    return Row(row, what, statistics.median(first), name, statistics.median(times), ratio, target)


def share(whole: Callable[[], object], products: Callable[[], object], *, seconds: float = 10.0) -> float:
    """Return the part of a computation's time that its products take alone, the median over pairs of runs."""
    times = zip(*alternate(whole, products, seconds=seconds), strict=True)
    return statistics.median(alone / all_of_it for all_of_it, alone in times)
