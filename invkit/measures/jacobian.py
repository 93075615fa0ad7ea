"""How strongly a layer answers to small changes of the image in given directions."""

__all__ = ["jacobian_gain"]

from collections.abc import Callable

import torch
from torch import Tensor

from invkit.errors import InputError
from invkit.fiber.distance import Activation
from invkit.fiber.linearise import Linearisation
from invkit.fiber.tangent import Tangent
from invkit.training.precision import in_float64, sum_in_float64


def jacobian_gain(
    phi: Callable[[Tensor], Activation], x: Tensor, directions: Tensor, tangent: Tangent | None = None
) -> Tensor:
    """Return `|J d| / |d|`, J being the Jacobian of Phi at x.

    Compared with random directions and noise it says whether the differences of samples are such as the
    layer ignores; for large differences it says nothing, because Phi is not linear.

    Args:
        phi: a differentiable map from `(B, 1, H, W)` in HU to an activation (`Split.phi_grad`).
        x: images, `(B, 1, H, W)`, HU.
        directions: shape `(N, B, 1, H, W)`; their length does not matter but must not be 0.
        tangent: of phi, where it was traced before.

    Returns:
        Shape `(N, B)`, float64, units of the activation per HU.

    Raises:
        InputError: a direction of another shape, or of length 0.
        SplitError: no gradient reaches the image.
    """
    if directions.shape[1:] != x.shape:
        raise InputError(
            f"directions must have shape (N, {', '.join(map(str, x.shape))}), got {tuple(directions.shape)}"
        )
    lengths = in_float64(directions).flatten(2).norm(dim=2)
    if bool((lengths == 0).any()):
        raise InputError("a direction has length 0, so the layer's response to it is undefined")
    gains: list[Tensor] = []
    at = Linearisation(phi, x, tangent)
    for direction in directions:
        squares = torch.stack([sum_in_float64(part.flatten(1).square(), 1) for part in at.forward(direction)])
        gains.append(squares.sum(0).sqrt())
    return torch.stack(gains).div(lengths)
