"""How far two activations are from each other."""

__all__ = ["Activation", "activation_distance", "as_rows", "parts_of", "pieces"]

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from invkit.errors import InputError
from invkit.training.precision import sum_in_float64

# z of one layer, or of a set of layers that together are a cut.
Activation = Tensor | tuple[Tensor, ...]
PIECE = 65_536


def activation_distance(a: Activation, b: Activation) -> Tensor:
    """Return the root mean square difference of activations over all their elements, one per image, `(N,)`, float64.

    Args:
        a: N activations, `(N, ...)`, or one such tensor for each layer of a set.
        b: as many, or a single one that all are compared with.

    Raises:
        InputError: shapes or numbers of activations that do not match.
    """
    first, second = parts_of(a), parts_of(b)
    if [part.shape[1:] for part in first] != [part.shape[1:] for part in second]:
        shapes = [[tuple(part.shape[1:]) for part in parts] for parts in (first, second)]
        raise InputError(f"activations differ in shape: {shapes[0]} against {shapes[1]}")
    n = len(first[0])
    if {len(part) for part in first} != {n} or {len(part) for part in second} not in ({n}, {1}):
        counts = [[len(part) for part in parts] for parts in (first, second)]
        raise InputError(f"activations differ in number: {counts[0]} against {counts[1]}")
    squares = torch.stack([_sum_of_squares(*parts) for parts in zip(first, second, strict=True)]).sum(0)
    return (squares / sum(math.prod(part.shape[1:]) for part in first)).sqrt()


def parts_of(z: Activation) -> tuple[Tensor, ...]:
    """Return an activation as a tuple of tensors, one for each layer of a set."""
    return z if isinstance(z, tuple) else (z,)


def as_rows(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return tensors `(N, ...)` and `(M, ...)` as `(N, k)` and `(M, k)`, their elements in the order of a's memory.

    In any other order a would be copied, as convolutions lay their output out in more than one.
    """
    order = sorted(range(1, a.ndim), key=a.stride, reverse=True)
    a, b = (part.permute(0, *order).reshape(len(part), math.prod(part.shape[1:])) for part in (a, b))
    return a, b


def _sum_of_squares(a: Tensor, b: Tensor) -> Tensor:
    a, b = as_rows(a, b)
    if a.device.type != "cpu":
        return _of_rows(a, b)
    # In pieces: memory for all of the differences would be taken anew for each image.
    return torch.stack([_of_row(*pair) for pair in zip(a, b.expand(len(a), -1), strict=True)])


def pieces(a: Tensor, b: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the parts of two vectors that a processor's cache holds at a time."""
    return zip(torch.split(a, PIECE), torch.split(b, PIECE), strict=True)


def _of_row(a: Tensor, b: Tensor) -> Tensor:
    return torch.stack([_of_rows(p[None], q[None])[0] for p, q in pieces(a, b)]).sum()


def _of_rows(a: Tensor, b: Tensor) -> Tensor:
    # Half precision would overflow: the square of 256 does.
    dtype = torch.promote_types(a.dtype, torch.float32)
    return sum_in_float64((a.to(dtype) - b.to(dtype)).square(), 1)
