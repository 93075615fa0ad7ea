"""How far two activations are from each other."""

__all__ = ["Activation", "activation_distance"]

import torch
from torch import Tensor

from invkit.errors import InputError

# z of one layer, or of a set of layers that together are a cut.
Activation = Tensor | tuple[Tensor, ...]


def activation_distance(a: Activation, b: Activation) -> Tensor:
    """Return the root mean square difference of activations over all their elements, one an image, `(N,)`, float64.

    Args:
        a: N activations, `(N, ...)`, or one such tensor for each layer of a set.
        b: as many, or a single one that all are compared with.

    Raises:
        InputError: shapes that do not match.
    """
    first = a if isinstance(a, tuple) else (a,)
    second = b if isinstance(b, tuple) else (b,)
    if [part.shape[1:] for part in first] != [part.shape[1:] for part in second]:
        shapes = [[tuple(part.shape[1:]) for part in parts] for parts in (first, second)]
        raise InputError(f"activations differ in shape: {shapes[0]} against {shapes[1]}")
    squares = torch.stack(
        [
            (one - other).flatten(1).square().sum(1, dtype=torch.float64)
            for one, other in zip(first, second, strict=True)
        ]
    ).sum(0)
    return (squares / sum(part[0].numel() for part in first)).sqrt()
