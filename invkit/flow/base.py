"""The contract that every invertible part of the flow meets."""

__all__ = ["Part"]

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Part(nn.Module, ABC):
    """An invertible map between codes z_bar and invariances v, given an embedding h of the condition.

    ``forward(z_bar, h) -> (v, log_det)`` and ``inverse(v, h) -> z_bar``, where ``inverse(forward(z_bar,
    h)[0], h)`` is z_bar, and log_det is the logarithm of abs(det(dv / dz_bar)), summed over dimensions:
    positive where the map expands. With v ~ N(0, 1) the density of a code is therefore ``log N(v; 0, 1) +
    log_det``.

    Shapes: z_bar and v ``(B, d)``, h ``(B, k)``, log_det ``(B,)``. More leading dimensions, as in ``(N, B,
        d)`` for N samples of B images, are allowed; h is then broadcast, so that it is worked on once for
        each image.
    """

    @abstractmethod
    def forward(self, z_bar: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Map codes z_bar ``(B, d)`` to v ``(B, d)``; the second value is log_det ``(B,)``."""

    @abstractmethod
    def inverse(self, v: Tensor, h: Tensor) -> Tensor:
        """Map v ``(B, d)`` back to codes z_bar ``(B, d)``."""
