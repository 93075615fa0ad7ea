"""One row of what becomes of structures: one kind, size, contrast and tissue."""

__all__ = ["StructureRow"]

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from invkit.measures.structures.shapes import Shape
from invkit.statistics.intervals import Interval


@dataclass(frozen=True)
class StructureRow:
    """Structures of one kind; intervals are over places and images.

    Args:
        shape: kind and size.
        contrast: that `contrast_kept` is measured at, HU; the other figures have none, to first order.
        tissue: where the structures lie.
        spacing: mm per pixel; `None` where it is not known.
        places: how many.
        values: by name: `contrast_kept`, contrast in f(x + d) - f(x) over that in d; `detectability_kept`, d'_l / d'_x of the
            ideal linear observers, and `detectability_lost`, 1 minus it, which tells more where nearly all is kept;
            `hidden_hu`, contrast of the strongest structure that the layer does not see at the tolerance, and
            `hidden_companion_hu`, the same with the most helpful noise beside it. The last four again for the identity at the
            same tolerance.
        converged: whether the detectability's linear systems were solved; else it is too large.
    """

    shape: Shape
    contrast: float
    tissue: str
    spacing: float | None
    places: int
    values: Mapping[str, Interval]
    converged: bool

    def figures(self) -> Mapping[str, Any]:
        """Return one row of `structures`."""
        disc, size = self.shape.kind == "disc", self.shape.size
        length = None if self.spacing is None else size * self.spacing
        return {
            "kind": self.shape.kind,
            "radius_px": size if disc else None,
            "radius_mm": length if disc else None,
            "size_px": None if disc else size,
            "size_mm": None if disc else length,
            "contrast_hu": self.contrast,
            "tissue": self.tissue,
            "places": self.places,
            "converged": self.converged,
            **self.values,
        }
