"""What a distance of activations is: weights of their elements, and a norm of what they differ by; and what may lessen it."""

__all__ = ["Metric", "root_mean_square"]

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from invkit.fiber.linearise import dot

Parts = tuple[Tensor, ...]


def root_mean_square(parts: Parts) -> Tensor:
    """Return the root mean square over all elements of N differences, `(N,)`, float64."""
    return (dot(parts, parts) / sum(math.prod(part.shape[1:]) for part in parts)).sqrt()


@dataclass(frozen=True)
class Metric:
    """A distance of activations.

    Args:
        norm: from a weighted difference, tensors `(N, ...)`, to its size, `(N,)`; the root mean square by default.
        weights: of the elements, tensors `(1, ...)`; 1 by default.
        where: 1 for pixels that may change to lessen it, 0 for those that may not, `(H, W)`; all by default.
    """

    norm: Callable[[Parts], Tensor] = root_mean_square
    weights: Parts | None = None
    where: Tensor | None = None

    def weighted(self, parts: Parts) -> Parts:
        """Return tensors `(N, ...)` times the weights."""
        if self.weights is None:
            return parts
        return tuple(part * weight for part, weight in zip(parts, self.weights, strict=True))

    def difference(self, a: Parts, b: Parts) -> Parts:
        """Return the weighted difference a - b, tensors `(N, ...)`."""
        return self.weighted(tuple(one - other for one, other in zip(a, b, strict=True)))
