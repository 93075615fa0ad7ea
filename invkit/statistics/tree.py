"""Figures as measures give them, a tree of intervals, numbers and texts; and as JSON, which is written once, at the end."""

__all__ = ["Measured", "as_json", "expanded", "leaves"]

import math
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from invkit.statistics.intervals import Interval, states_interval


@runtime_checkable
class Measured(Protocol):
    """What a measure found, as a dataclass that tells its figures."""

    def figures(self) -> Mapping[str, Any]:
        """Return the figures by their keys: intervals, numbers, texts, lists and mappings of them, or other measures."""


# Asked for first, since to ask for a protocol takes a hundred times as long.
PLAIN = (Interval, str, int, float, type(None))


def expanded(value: Any) -> Any:
    """Return a tree in which every measure is a mapping of its figures; intervals stay what they are."""
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, Mapping):
        return {key: expanded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [expanded(item) for item in value]
    return expanded(value.figures()) if isinstance(value, Measured) else value


def leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and figures; a mapping that `states_interval` is one that was read from JSON, any other a group.

    What is not known (`None`) is left out, and so are lists of anything but texts, which are a plot's.

    Args:
        tree: figures, or a measure.
        prefix: of the keys.
    """
    yield from _leaves(expanded(tree), prefix)


def _leaves(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and not states_interval(value):
            yield from _leaves(value, f"{prefix}{key}.")
        elif value is None or (isinstance(value, list) and any(not isinstance(one, str) for one in value)):
            continue
        else:
            yield f"{prefix}{key}", value


def as_json(tree: Any) -> Any:
    """Return figures as JSON values: an interval as its value with `low` and `high`, `null` for no number."""
    if isinstance(tree, Interval):
        return tree.to_json()
    if isinstance(tree, Measured):
        return as_json(tree.figures())
    if isinstance(tree, Mapping):
        return {key: as_json(item) for key, item in tree.items()}
    if isinstance(tree, list | tuple):
        return [as_json(item) for item in tree]
    if tree is None or isinstance(tree, str | bool | int):
        return tree
    if isinstance(tree, float):
        return tree if math.isfinite(tree) else None
    raise TypeError(f"a {type(tree).__name__} is no figure")
