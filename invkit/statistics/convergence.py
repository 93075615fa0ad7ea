"""Had a training converged? What its second half still gained, from the learning curve of held-out figures."""

__all__ = ["Convergence", "convergence"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from invkit.statistics.intervals import number

LAST = 0.5


@dataclass(frozen=True)
class Convergence:
    """Where a training stood when it ended.

    Args:
        steps: how many it took; `None` where the file does not say.
        gain: what the second half of them still gained, in the unit that the caller chose; `None` where unknown.
        tolerance: up to which the training counts as converged.
    """

    steps: int | None
    gain: float | None
    tolerance: float

    @property
    def converged(self) -> bool | None:
        """Whether it had next to nothing left to gain; `None` where nothing is known."""
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
            f"The training of {name} had not converged: the second half of its steps still gained "
            f"{number(self.gain)}{unit}, more than {number(self.tolerance)}{unit}."
        )

    def figures(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"converged": self.converged, "last_gain": self.gain, "steps": self.steps}


def convergence(
    curve: Sequence[Sequence[float]] | None,
    *,
    tolerance: float,
    scale: float = 1.0,
    stopped: bool = False,
) -> Convergence:
    """Return what the second half of a training still gained.

    The best state is what a training gives, so the gain is the best held-out figure of the first half, its end between its
    neighbours by straight lines included, minus the best of all. Where the rate had decayed in the middle too, as in
    `doubling_cosine`, this is what doubling the steps gained; where it decays only at the end, it is rather more.

    Args:
        curve: `(step, figure)`, the figure falling; `None` where none was kept.
        tolerance: gain up to which a training counts as converged.
        scale: unit of the gain.
        stopped: whether it ended because held-out figures no longer improved, so that nothing was left to gain.
    """
    if not curve or len(curve) < 2:
        return Convergence(int(curve[-1][0]) if curve else None, 0.0 if stopped else None, tolerance)
    steps, values = np.array(curve, dtype=np.float64).T
    begun = (1 - LAST) * steps[-1]
    before = min(float(np.interp(begun, steps, values)), *values[steps <= begun].tolist())
    end = min(before, float(values.min()))
    gain = 0.0 if stopped else (before - end) / scale if scale > 0 else None
    return Convergence(int(steps[-1]), gain, tolerance)
