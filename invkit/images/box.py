"""A rectangle of pixels that a user marks: a structure that may or may not be real."""

__all__ = ["LARGEST", "LEAST", "Box", "BoxSpec", "choose_box", "four_numbers"]

from collections.abc import Sequence
from dataclasses import dataclass

from invkit.errors import UsageError

BoxSpec = str | Sequence[int] | None
LEAST, LARGEST = 5, 96  # pixels on a side


@dataclass(frozen=True)
class Box:
    """A rectangle.

    Args:
        x: column of its left edge.
        y: row of its upper edge.
        width: columns.
        height: rows.
    """

    x: int
    y: int
    width: int
    height: int

    @property
    def place(self) -> tuple[slice, slice]:
        """Rows and columns."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)

    @property
    def middle(self) -> tuple[int, int]:
        """Row and column."""
        return self.y + self.height // 2, self.x + self.width // 2

    def within(self, part: tuple[slice, slice]) -> bool:
        """Return whether all of it lies in rows and columns."""
        return all(
            outer.start <= inner.start and inner.stop <= outer.stop
            for inner, outer in zip(self.place, part, strict=True)
        )

    def moved(self, rows: int, columns: int) -> "Box":
        """Return it further down and to the right."""
        return Box(self.x + columns, self.y + rows, self.width, self.height)

    def __str__(self) -> str:
        return f"{self.x},{self.y},{self.width},{self.height}"


def choose_box(spec: BoxSpec, size: tuple[int, int]) -> Box | None:
    """Return what is marked, or `None` where nothing is.

    Args:
        spec: `None`; `"x,y,w,h"` or four whole numbers: column and row of the upper left pixel, width and height.
        size: height and width of the image.

    Raises:
        UsageError: it is malformed, leaves the image, or is too small or too large for a structure with its surroundings.
    """
    if spec is None:
        return None
    what = "a structure is marked by four whole numbers x,y,w,h"
    numbers = four_numbers(spec, what)
    if numbers is None:
        raise UsageError(f"{what}; got {spec!r}")
    box = Box(*numbers)
    if box.x < 0 or box.y < 0 or not box.within((slice(0, size[0]), slice(0, size[1]))):
        raise UsageError(
            f"the structure {box} (x,y,w,h) extends beyond the image of {size[1]} x {size[0]} pixels: x and y are column and "
            "row of the upper left pixel, w and h its width and height"
        )
    if min(box.width, box.height) < LEAST or max(box.width, box.height) > LARGEST:
        raise UsageError(
            f"the structure {box} (x,y,w,h) must have between {LEAST} and {LARGEST} pixels a side: mark it with a rim of its "
            "surroundings, from which the background is taken"
        )
    return box


def four_numbers(spec: object, what: str) -> tuple[int, int, int, int] | None:
    """Return a rectangle from a text or a sequence of whole numbers; `None` where something else is meant.

    Args:
        spec: the text or sequence.
        what: what was to be given, in words.

    Raises:
        UsageError: they are not four, or no whole numbers.
    """
    if isinstance(spec, str):
        parts: Sequence[object] = spec.split(",")
    elif isinstance(spec, list | tuple) and all(isinstance(part, int) for part in spec):
        parts = spec
    else:
        return None
    if isinstance(spec, str) and len(parts) == 1:
        return None
    try:
        x, y, width, height = (int(str(part)) for part in parts)
    except ValueError:
        raise UsageError(f"{what}; got {spec!r}") from None
    return x, y, width, height
