"""The images behind a flow's fiber term: from codes to the distance of Phi of their images from z."""

__all__ = ["FiberRows"]

from collections.abc import Sequence

import torch
from torch import Tensor

from invkit.data.patches import PatchSampler
from invkit.fiber.distance import Activation, activation_distance
from invkit.split.split import Split
from invkit.vae.vae import VAE


class FiberRows:
    """|Phi(D(code)) - Phi(x)| / s_Phi for rows of a table of codes, whose patches x are drawn again when they are needed.

    Args:
        split: the layer.
        vae: D; its weights get no gradient from here.
        sampler: what the table's patches were drawn by.
        batch: patches in one of the batches that they were drawn in.
        scale: s_Phi.
        device: where Phi and D run.
    """

    def __init__(
        self,
        split: Split,
        vae: VAE,
        sampler: PatchSampler,
        *,
        batch: int,
        scale: float,
        device: torch.device | str,
    ) -> None:
        self.split, self.vae, self.sampler, self.batch = split, vae, sampler, batch
        self.scale, self.device = scale, device

    def __call__(self, codes: Tensor, rows: Sequence[int]) -> Tensor:
        """Return the error of each code, `(n,)`; codes `(n, d)` for the rows of these indices."""
        errors = [self._error(code, row) for code, row in zip(torch.split(codes, 1), rows, strict=True)]
        return torch.cat(errors)

    def _error(self, code: Tensor, row: int) -> Tensor:
        distance = activation_distance(self.split.phi_grad(self.vae.decode(code)), self.activation(row))
        return (distance / self.scale).to(code.dtype)

    def activation(self, row: int) -> Activation:
        """Return z = Phi(x) of the patch of a row, `(1, ...)`."""
        step, place = divmod(row, self.batch)
        return self.split.phi(self.sampler.batch(step, self.batch, slice(place, place + 1)).x.to(self.device))
