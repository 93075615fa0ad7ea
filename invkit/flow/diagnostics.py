"""Checks of a flow: exactness of the inverse and of log_det."""

__all__ = ["log_det_error", "round_trip_error"]

import copy

import torch
from torch import Tensor

from invkit.flow.base import Part


@torch.no_grad()
def round_trip_error(part: Part, z_bar: Tensor, h: Tensor) -> float:
    """Return the largest abs(inverse(forward(z_bar)) - z_bar) over all numbers.

    Args:
        part: a part of the flow, or all of it.
        z_bar: codes, shape `(B, d)`.
        h: embedding, shape `(B, k)`.
    """
    v, _ = part(z_bar, h)
    return float((part.inverse(v, h) - z_bar).abs().max())


def log_det_error(part: Part, z_bar: Tensor, h: Tensor) -> float:
    """Return the largest abs(log_det - log abs(det J)), J by autograd, in float64 on a copy.

    Args:
        part: a part of the flow, or all of it; it is not changed.
        z_bar: codes, shape `(B, d)`; the cost grows with d squared.
        h: embedding, shape `(B, k)`.
    """
    exact = copy.deepcopy(part).double()
    z_bar, h = z_bar.detach().double(), h.detach().double()
    largest = 0.0
    for row, condition in zip(torch.split(z_bar, 1), torch.split(h, 1), strict=True):

        def image(code: Tensor, condition: Tensor = condition) -> Tensor:
            v: Tensor = exact(code[None], condition)[0][0]
            return v

        jacobian = torch.func.jacrev(image)(row[0])
        truth = torch.linalg.slogdet(jacobian).logabsdet
        largest = max(largest, float((exact(row, condition)[1][0] - truth).detach().abs()))
    return largest
