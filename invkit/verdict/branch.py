"""What is said of a branch: what becomes at the output of the changes that it ignores."""

__all__ = ["BranchFound", "branch_sentence"]

from dataclasses import dataclass
from typing import Any

from invkit.statistics.intervals import Interval, number
from invkit.verdict.structures import HIDES

REMOVED = 0.1  # of the change of x, up to which what is left of it at the output counts as nothing


@dataclass(frozen=True)
class BranchFound:
    """What is known of a branch, a layer that something goes round.

    Args:
        leak: share of the change of f(x) that another image causes although z is fixed.
        change: root mean square of x* - x over the interior and over certified images x*, HU; `None` where none were drawn, or
            there is no interior.
        f_change: the same of f(x*) - f(x), HU.
    """

    leak: float
    change: Interval | None = None
    f_change: Interval | None = None

    @property
    def ratio(self) -> float | None:
        """Of the change at the output to that of the image; `None` where it is not known."""
        if self.change is None or self.f_change is None or not self.change.value > 0:
            return None
        return self.f_change.value / self.change.value

    def figures(self) -> dict[str, Any]:
        """Return the figures by their keys."""
        return {
            "leak": self.leak,
            "change_hu": self.change,
            "f_change_hu": self.f_change,
            "ratio": self.ratio,
        }


def branch_sentence(layer: str, found: BranchFound) -> str:
    """Return what becomes at the output of what the layer ignores, by the rules in `docs/rules.md`.

    Args:
        layer: its name in a sentence.
        found: what was measured.
    """
    said = f"Something goes round {layer}: it is a branch, and what it ignores may still reach the output"
    if found.ratio is None or found.change is None or found.f_change is None:
        return f"{said}; no certified image tells how much does."
    return (
        f"{said}. Where certified images differ from x by {found.change.text('HU')}, f of them differs from f(x) by "
        f"{found.f_change.text('HU')}: the change is {_becomes(found.ratio)}."
    )


def _becomes(ratio: float) -> str:
    if ratio > HIDES:
        return f"enlarged, {number(ratio)} times"
    if ratio >= 1 / HIDES:
        return "kept"
    return "removed" if ratio <= REMOVED else f"partly removed, {100 * ratio:.0f} % is left"
