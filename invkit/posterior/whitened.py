"""What a layer tells of an image's noise, to first order: z / (sigma S) against white noise w with x = m + A w."""

__all__ = ["Whitened"]

import copy
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor

from invkit.fiber.linearise import Linearisation
from invkit.fiber.tangent import Tangent
from invkit.noise.covariance import NoiseCovariance
from invkit.noise.solve import Solution, solve
from invkit.split.split import Split
from invkit.tolerance.unit import Unit
from invkit.training.precision import in_float64

Parts = tuple[Tensor, ...]
PROBES = 4
SMOOTH = 5  # frequencies on a side, over which a probed spectrum is averaged


class Whitened:
    """G = (sigma S)^-1 J A at images m, for N of them at once; p(w | z) is N(., (I + G^T G)^-1) where Phi is linear.

    Args:
        split: the layer.
        at: where it is linearised, `(N, 1, H, W)`, HU.
        unit: S.
        sigma: deviation of every element of z, in units of S.
        covariance: C.
        tangent: of the layer, traced before.
    """

    def __init__(
        self,
        split: Split,
        at: Tensor,
        unit: Unit,
        sigma: float,
        covariance: NoiseCovariance,
        tangent: Tangent | None = None,
    ) -> None:
        self.linear = Linearisation(split.phi_grad, at, tangent)
        self.covariance = covariance
        self.weights = tuple(1 / (sigma * s) for s in unit.s)
        self._inverse: Callable[[Tensor], Tensor] | None = None

    def reweighted(self, weights: Parts) -> Self:
        """Return W J A in place of G, of the same linearisation.

        Args:
            weights: W, of every element of z, in the shapes of z; of one image, or of each.
        """
        other = copy.copy(self)
        other.weights, other._inverse = weights, None
        return other

    def forward(self, white: Tensor) -> Parts:
        """Return G w, in the shapes of z; w: `(N, 1, H, W)`."""
        return self._weighted(self.linear.forward(self.covariance.root(white)))

    def transposed(self, dual: Parts) -> Tensor:
        """Return G^T q, `(N, 1, H, W)`; q: in the shapes of z."""
        return self.covariance.root_transposed(self.linear.transposed(self._weighted(dual)))

    def apply(self, white: Tensor) -> Tensor:
        """Return (I + G^T G) w."""
        return white + self.transposed(self.forward(white))

    def solve(
        self, b: Tensor, *, within: float, at_most: int, inverse: Callable[[Tensor], Tensor] | None = None
    ) -> Solution:
        """Return (I + G^T G)^-1 b, `(N, 1, H, W)`; `inverse` is an approximate one, by default that of `stationary`."""
        if inverse is None and self._inverse is None:
            self._inverse = self.stationary(b)
        return solve(self.apply, b, within=within, at_most=at_most, preconditioner=inverse or self._inverse)

    def stationary(self, like: Tensor) -> Callable[[Tensor], Tensor]:
        """Return an approximate inverse: I + G^T G is nearly a filter where the image is nearly the same everywhere.

        Its spectrum is that of probes, noise through G^T G, averaged over the images at hand.
        """
        rows, columns = self.covariance.size
        generator = torch.Generator().manual_seed(0)
        power = total = torch.zeros((), dtype=torch.float64)
        for _ in range(max(1, PROBES // len(like))):
            probe = torch.randn(len(like), 1, rows, columns, generator=generator).to(like)
            seen = torch.fft.rfft2(self.transposed(self.forward(probe)))
            own = torch.fft.rfft2(probe)
            power = power + in_float64((own.conj() * seen).real.sum((0, 1))).cpu()
            total = total + in_float64(own.abs().square().sum((0, 1))).cpu()
        spectrum = 1 + (_smooth(power) / _smooth(total)).clamp(min=0).to(like.dtype).to(like.device)
        return lambda b: torch.fft.irfft2(torch.fft.rfft2(b) / spectrum, s=(rows, columns))

    def _weighted(self, parts: Parts) -> Parts:
        return tuple(part * weight for part, weight in zip(parts, self.weights, strict=True))


def _smooth(spectrum: Tensor) -> Tensor:
    """Return a half spectrum averaged over neighbouring frequencies; rows are periodic, columns mirrored about 0."""
    reach = SMOOTH // 2
    wide = torch.cat([spectrum[-reach:], spectrum, spectrum[:reach]])
    left = torch.flip(wide[:, 1 : reach + 1], (1,))
    right = torch.flip(wide[:, -reach - 1 : -1], (1,))
    full = torch.cat([left, wide, right], dim=1)[None, None]
    kernel = torch.ones(1, 1, SMOOTH, SMOOTH, dtype=full.dtype, device=full.device) / SMOOTH**2
    return torch.nn.functional.conv2d(full, kernel)[0, 0]
