"""Had a training converged? What its last quarter still gained, from the learning curve of held-out figures."""

__all__ = ["Convergence", "convergence"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from invkit.metrics.intervals import number

LAST = 0.25


@dataclass(frozen=True)
class Convergence:
    """Where a training stood when it ended.

    Args:
        steps: how many it took; `None` where the file does not say.
        gain: what the last quarter of them still gained, in the unit that the caller chose; `None` where unknown.
        tolerance: up to which the training counts as converged.
        stopped: whether it ended because held-out figures no longer improved.
    """

    steps: int | None
    gain: float | None
    tolerance: float
    stopped: bool = False

    @property
    def converged(self) -> bool | None:
        """Whether it ended by itself or had next to nothing left to gain; `None` where nothing is known."""
        if self.stopped:
            return True
        return None if self.gain is None else self.gain <= self.tolerance

    def text(self, name: str, unit: str = "") -> str:
        """Say in words why a training had not converged.

        Args:
            name: of the training, e.g. `"layer 3"`.
            unit: of the gain, for people.
        """
        if self.gain is None:
            return f"Nothing says whether the training of {name} had converged."
        return (
            f"The training of {name} had not converged: the last quarter of its {self.steps:,} steps still gained "
            f"{number(self.gain)}{unit}, more than {number(self.tolerance)}{unit}."
        )

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"converged": self.converged, "last_gain": self.gain, "steps": self.steps}


def convergence(
    curve: Sequence[Sequence[float]] | None,
    *,
    tolerance: float,
    scale: float = 1.0,
    stopped: bool = False,
) -> Convergence:
    """Return what the last quarter of a training still gained.

    The gain is the held-out figure at three quarters of the steps, between its neighbours by straight lines, minus the best
    at or after it; a figure that got worse has a gain of 0. Where the learning rate decays to nothing, a flat end says that
    this schedule had nothing more to give, and not that a longer one would not.

    Args:
        curve: `(step, figure)`, the figure falling; `None` where none was kept.
        tolerance: gain up to which a training counts as converged.
        scale: unit of the gain.
        stopped: whether it ended because held-out figures no longer improved.
    """
    if not curve or len(curve) < 2:
        return Convergence(int(curve[-1][0]) if curve else None, None, tolerance, stopped)
    steps, values = np.array(curve, dtype=np.float64).T
    begun = (1 - LAST) * steps[-1]
    before = float(np.interp(begun, steps, values))
    end = min(before, float(values[steps >= begun].min()))
    gain = (before - end) / scale if scale > 0 else None
    return Convergence(int(steps[-1]), gain, tolerance, stopped)
