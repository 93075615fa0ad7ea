"""One line of a validation: what was measured, what it had to be, and whether it is."""

__all__ = ["LEAST_CERTIFIED", "Relation", "Row", "Seeds", "certified", "overlap"]

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from invkit.fiber.refine import Refined
from invkit.training.seeds import derive_seed, generator

Relation = Literal["<=", ">="]
LEAST_CERTIFIED = 8


@dataclass(frozen=True)
class Row:
    """A measured figure held against its bound.

    Args:
        id: name of the check; rows of one oracle begin alike.
        measure: what the value is, one line for people.
        value: not a number where nothing could be measured; then it does not hold.
        bound: what it is compared with.
        relation: `"<="` or `">="`, value to bound.
    """

    id: str
    measure: str
    value: float
    bound: float
    relation: Relation = "<="

    @property
    def holds(self) -> bool:
        """Whether the value keeps its bound."""
        return self.value <= self.bound if self.relation == "<=" else self.value >= self.bound

    def to_json(self) -> dict[str, Any]:
        """Return the row as JSON values; a value that could not be measured is `None`."""
        value = self.value if math.isfinite(self.value) else None
        return {
            "id": self.id,
            "measure": self.measure,
            "value": value,
            "relation": self.relation,
            "bound": self.bound,
            "holds": self.holds,
        }


@dataclass(frozen=True)
class Seeds:
    """Where a check draws from: one generator for each purpose, all from one seed."""

    seed: int
    name: str

    def number(self, *path: int | str) -> int:
        """Return a seed."""
        return derive_seed(self.seed, "validate", self.name, *path)

    def generator(self, *path: int | str) -> torch.Generator:
        """Return a generator."""
        return generator(self.seed, "validate", self.name, *path)

    def randn(self, *shape: int, path: str) -> Tensor:
        """Return standard normal numbers, float32."""
        return torch.randn(*shape, generator=self.generator(path))


def overlap(found: Tensor, planted: Tensor) -> float:
    """Return how well two masks of one shape agree: intersection over union."""
    return int((found & planted).sum()) / int((found | planted).sum())


def certified(found: Refined, measure: Callable[[Tensor], float]) -> float:
    """Return a figure of the samples whose certificate holds; not a number for fewer than eight of them."""
    rows = found.certificates.holds
    if int(rows.sum()) < LEAST_CERTIFIED:
        return math.nan
    return measure(rows)
