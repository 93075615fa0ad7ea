"""Figures of many slices as one table: each slice's, and what they come to together."""

__all__ = ["leaves", "pooled"]

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from invkit.statistics.intervals import Interval, bootstrap, states_interval

SQUARED = ("_hu", "fiber_error")


def leaves(metrics: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, float]]:
    """Yield the figures of one layer that are numbers by their dotted keys; of an interval its value."""
    for key, value in metrics.items():
        name = f"{path}.{key}" if path else key
        if isinstance(value, bool) or value is None:
            continue
        if isinstance(value, int | float):
            yield name, float(value)
        elif isinstance(value, Mapping):
            if not states_interval(value):
                yield from leaves(value, name)
            elif isinstance(value["value"], int | float):
                yield name, float(value["value"])


def pooled(rows: Sequence[Mapping[str, Any]], *, seed: int) -> dict[str, Any]:
    """Return each figure over slices, with the percentile bootstrap over slices as its interval.

    Figures in HU and fiber errors are root mean squares over pixels or activations, so they are pooled as root mean squares;
    all others as means. A figure that not every slice has is left out. The interval is about other slices of this series: they
    share a patient, so it says nothing about other patients. A figure that is the same in all slices, such as a count, is that
    number, without an interval: the bootstrap would give one of no width.

    Args:
        rows: metrics of one layer, one entry per slice.
        seed: of the bootstrap.
    """
    flat = [dict(leaves(row)) for row in rows]
    result: dict[str, Any] = {}
    for key in flat[0]:
        if not all(key in row for row in flat):
            continue
        values = torch.tensor([row[key] for row in flat], dtype=torch.float64)
        squared = any(part.endswith(SQUARED) for part in key.split("."))
        found = bootstrap(values.square() if squared else values, seed=seed)
        if bool((values == values[0]).all()):
            found = Interval(float(values[0].abs() if squared else values[0]))
        elif squared:
            found = found.root()
        *parents, last = key.split(".")
        place = result
        for name in parents:
            place = place.setdefault(name, {})
        place[last] = found.to_json()
    return result
