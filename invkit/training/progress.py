"""What a training tells about itself while it runs, and how long it will still take."""

__all__ = ["Progress", "ProgressEvent", "TimeLeft", "report_progress"]

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class ProgressEvent:
    """One report of progress.

    Args:
        stage: what is being done, e.g. `"training"`.
        step: steps done so far.
        steps: steps in all; 0 where that is not known.
        seconds: time spent so far, earlier sessions of a resumed training included.
        seconds_left: estimate of the time still needed, or `None` where there is none yet.
        metrics: the latest figures.
    """

    stage: str
    step: int
    steps: int
    seconds: float
    seconds_left: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


Progress = Callable[[ProgressEvent], None]


class TimeLeft:
    """Estimates the time left from the rate of the last reports.

    Args:
        steps: steps in all.
        window: reports that count; a machine that becomes slower is noticed after that many.
    """

    def __init__(self, steps: int, *, window: int = 50):
        self.steps = steps
        self._marks: deque[tuple[int, float]] = deque(maxlen=window)

    def update(self, step: int, now: float) -> float | None:
        """Note that `step` steps are done at time `now`, seconds; return the seconds left if known."""
        if step >= self.steps:
            return 0.0
        if self._marks and step < self._marks[-1][0]:
            self._marks.clear()
        if not self._marks or step > self._marks[-1][0]:
            self._marks.append((step, now))
        (first, begun), (last, _) = self._marks[0], self._marks[-1]
        if last == first:
            return None
        return (now - begun) / (last - first) * (self.steps - step)


def report_progress(
    items: Iterable[Item], stage: str, steps: int, progress: Progress | None
) -> Iterator[Item]:
    """Yield items, and report each once it has been dealt with.

    Args:
        items: what is gone through.
        stage: what is being done.
        steps: items in all.
        progress: called after each; `None` for nobody.
    """
    begun, left = time.monotonic(), TimeLeft(steps)
    for step, item in enumerate(items, start=1):
        yield item
        if progress is not None:
            now = time.monotonic() - begun
            progress(ProgressEvent(stage, step, steps, now, left.update(step, now)))
