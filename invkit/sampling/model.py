"""A layer's trained cINN with everything that belongs to it: regressor, embedding, code, decoder."""

__all__ = ["LayerModel"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from invkit.flow.cinn import CINN
from invkit.representation.regressor import Regressor
from invkit.representation.vae import VAE
from invkit.sampling.distance import Activation
from invkit.split.split import Split


@dataclass(frozen=True)
class LayerModel:
    """t(z_bar | z) for one layer, with the networks that turn z into its condition and codes into images.

    The condition of z is the code of an image estimated from it: `c = E(g(z))`, where g is a small network that regresses the
    image from the activation. The same code path serves layers, `input` and `const`.

    Args:
        split: the layer.
        regressor: g, from z to an image in HU.
        vae: E and D; of the target domain.
        cinn: t.
        meta: provenance and held-out figures.
        sha256: of the file it was read from.
        nll_rows: held-out negative log-likelihoods in nats per dimension, one a patch, shape `(n,)`.
        patients: number of the patient each of them is from, shape `(n,)`.
        floor_rows: posterior entropy of each, the least its likelihood can be, shape `(n,)`; `None` in files of before.
    """

    split: Split
    regressor: Regressor
    vae: VAE
    cinn: CINN
    meta: dict[str, Any]
    sha256: str
    nll_rows: Tensor
    patients: Tensor
    floor_rows: Tensor | None = None

    @torch.no_grad()
    def estimate(self, z: Activation, size: Sequence[int]) -> Tensor:
        """Return g(z), the image estimated from an activation, `(B, 1, H, W)`, HU."""
        estimate: Tensor = self.regressor(z, (size[0], size[1]))
        return estimate

    @torch.no_grad()
    def condition(self, estimate: Tensor) -> Tensor:
        """Return the condition `(B, 2 d)` of estimated patches `(B, 1, patch, patch)`, HU."""
        posterior = self.vae.encode(estimate)
        return torch.cat([posterior.mean, posterior.log_var], dim=1)

    @torch.no_grad()
    def embed(self, condition: Tensor) -> Tensor:
        """Return h `(B, k)`, the embedding of conditions `(B, 2 d)`: once for each image, however many samples."""
        return self.cinn.embed(condition)

    @torch.no_grad()
    def invert(self, v: Tensor, h: Tensor) -> Tensor:
        """Return z_bar' = t^-1(v | z): v `(N, B, d)`, h `(B, k)`, result `(N, B, d)`."""
        return self.cinn.inverse(v, h)

    def codes(self, condition: Tensor, v: Tensor) -> Tensor:
        """Return z_bar' = t^-1(v | z): condition `(B, 2 d)`, v `(N, B, d)`, result `(N, B, d)`."""
        return self.invert(v, self.embed(condition))

    @torch.no_grad()
    def invariance_of(self, patches: Tensor, condition: Tensor) -> Tensor:
        """Return v = t(E(x) | z) of patches `(B, 1, patch, patch)`, HU: what the layer does not say about them, `(B, d)`."""
        v: Tensor = self.cinn(self.vae.encode(patches).mean, self.cinn.embed(condition))[0]
        return v
