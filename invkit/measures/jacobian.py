"""How strongly a layer answers to small changes of the image in given directions (E12)."""

__all__ = ["jacobian_gain"]

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from invkit.errors import InputError
from invkit.training.precision import in_float64, sum_in_float64


def jacobian_gain(phi: Callable[[Tensor], Any], x: Tensor, directions: Tensor) -> Tensor:
    """Return `|J d| / |d|`, J being the Jacobian of Phi at x, by forward-mode differentiation.

    Compared with random directions and noise it says whether the differences of samples are such as the
    layer ignores; for large differences it says nothing, because Phi is not linear.

    Args:
        phi: a differentiable map from `(B, 1, H, W)` in HU to an activation or a sequence of them
            (`Split.phi_grad`).
        x: images, `(B, 1, H, W)`, HU.
        directions: shape `(N, B, 1, H, W)`; their length does not matter but must not be 0.

    Returns:
        Shape `(N, B)`, float64, units of the activation per HU.

    Raises:
        InputError: a direction of another shape, or of length 0.
    """
    if directions.shape[1:] != x.shape:
        raise InputError(
            f"directions must have shape (N, {', '.join(map(str, x.shape))}), got {tuple(directions.shape)}"
        )
    lengths = in_float64(directions).flatten(2).norm(dim=2)
    if bool((lengths == 0).any()):
        raise InputError("a direction has length 0, so the layer's answer to it is not defined")
    gains: list[Tensor] = []
    for direction in directions:
        change = torch.func.jvp(phi, (x,), (direction,))[1]
        parts = (change,) if isinstance(change, Tensor) else tuple(change)
        squares = torch.stack([sum_in_float64(part.flatten(1).square(), 1) for part in parts])
        gains.append(squares.sum(0).sqrt())
    return torch.stack(gains).div(lengths)
