"""A convolutional conditional flow on an orthonormal wavelet basis: nothing of the image is lost."""

__all__ = ["WaveletFlow"]

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from invkit import UsageError
from invkit.samplers import derive_seed, generator, in_float64, mixed_precision, seeded
from invkit_samplers.wavelet.config import WaveletConfig
from invkit_samplers.wavelet.grid import GridAffine, GridCoupling, GridWhitening
from invkit_samplers.wavelet.haar import haar, pack, unhaar, unpack


class WaveletFlow(nn.Module):
    """t(r | z): a grid r becomes v, as many numbers, which are N(0, 1) where the model is right.

    ``forward(r, h) -> (v, log_det)``, ``inverse(v, h) -> r`` with h = ``embed(condition)``. An orthonormal Haar transform splits r
    level by level into details and a coarse grid; the details of each level are modelled given the coarse grid and the
    condition, the last coarse grid given the condition alone (as in Wavelet Flow, Yu et al., NeurIPS 2020). All
    networks are convolutions, so it applies to any size that is a multiple of `config.multiple`.

    Every shift and log-scale is bounded, so that |r| is at most an affine function of |v|, for any parameters and condition:
    a sample cannot run away on a grid larger than those of the training.

    Shapes: r and v `(B, channels, H, W)`, condition `(B, C, H / unit, W / unit)`, log_det `(B,)`. In h the batch may be 1: it then
    belongs to all of r or v.

    Args:
        config: sizes and bounds.
        inputs: C, channels of the condition.
    """

    def __init__(self, config: WaveletConfig, inputs: int) -> None:
        super().__init__()
        self.config, self.inputs = config, inputs
        c, block = config.channels, 4 if config.squeeze else 1
        random = generator(config.seed, "wavelet", "rotations")

        def build() -> tuple[_Embedder, nn.ModuleList, _Level]:
            levels = (
                _Level(3 * c * block, c * block, config, generator=random) for _ in range(config.levels)
            )
            return (
                _Embedder(config, inputs),
                nn.ModuleList(levels),
                _Level(c * block, 0, config, generator=random),
            )

        parameters = derive_seed(config.seed, "wavelet", "parameters")
        self.embedder, self.levels, self.top = seeded(build, parameters)

    def embed(self, condition: Tensor) -> tuple[Tensor, ...]:
        """Return the embedding of a condition on the grid of each level, finest first; once for all samples of an image."""
        embedded: tuple[Tensor, ...] = self.embedder(condition)
        return embedded

    def forward(self, r: Tensor, h: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Map r to v and log_det."""
        self._check(r)
        log_det = r.new_zeros(len(r))
        invariances = []
        for level, of_z in zip(self._levels, h, strict=False):
            r, details = haar(r)
            y, change = level(self._squeezed(details), level.embed(of_z, self._squeezed(r)))
            invariances.append(self._spread(y))
            log_det = log_det + change
        y, change = self._top(self._squeezed(r), self._top.embed(h[-1]))
        packed = self._spread(y)
        for details in reversed(invariances):
            packed = pack(packed, details)
        return packed, log_det + change

    def inverse(self, v: Tensor, h: Sequence[Tensor]) -> Tensor:
        """Map v back to r."""
        self._check(v)
        invariances = []
        for _ in range(self.config.levels):
            v, details = unpack(v)
            invariances.append(details)
        r = self._spread(self._top.inverse(self._squeezed(v), self._top.embed(h[-1])))
        for level, of_z, details in zip(
            reversed(self._levels), reversed(h[: self.config.levels]), reversed(invariances), strict=True
        ):
            embedded = level.embed(of_z, self._squeezed(r))
            r = unhaar(r, self._spread(level.inverse(self._squeezed(details), embedded)))
        return r

    def nll(self, r: Tensor, condition: Tensor) -> Tensor:
        """Return the negative log-likelihood of r, `(B,)`, nats per dimension, in the unit of r."""
        v, log_det = self(r, self.embed(condition))
        n = r[0].numel()
        nll: Tensor = 0.5 * v.square().flatten(1).mean(1) + 0.5 * math.log(2 * math.pi) - log_det / n
        return nll

    @torch.no_grad()
    def start(self, r: Tensor, condition: Tensor) -> None:
        """Whiten the coefficients of every level on examples `(n, channels, H, W)` and standardise the condition."""
        self.embedder.observe(condition)
        for level in self._levels:
            r, details = haar(r)
            level.start(self._squeezed(details), self._squeezed(r))
        self._top.start(self._squeezed(r), None)

    @property
    def _levels(self) -> list["_Level"]:
        return [level for level in self.levels if isinstance(level, _Level)]

    @property
    def _top(self) -> "_Level":
        top: _Level = self.top
        return top

    def _squeezed(self, grid: Tensor) -> Tensor:
        return functional.pixel_unshuffle(grid, 2) if self.config.squeeze else grid

    def _spread(self, grid: Tensor) -> Tensor:
        return functional.pixel_shuffle(grid, 2) if self.config.squeeze else grid

    def _check(self, r: Tensor) -> None:
        if (
            r.ndim != 4
            or r.shape[1] != self.config.channels
            or any(side % self.config.multiple for side in r.shape[-2:])
        ):
            raise UsageError(
                f"this flow takes grids of {self.config.channels} channel(s) whose sides are multiples of "
                f"{self.config.multiple}, got {tuple(r.shape)}: pad the image"
            )


class _Level(nn.Module):
    """p(details | coarse, z) on one grid: whitening, what the condition expects, couplings."""

    low_mean: Tensor
    low_std: Tensor

    def __init__(self, channels: int, low: int, config: WaveletConfig, *, generator: torch.Generator) -> None:
        super().__init__()
        self.whitening = GridWhitening(channels)
        self.affine = GridAffine(channels, config)
        # A grid of one channel has no halves; what the condition expects of it is all there is to learn.
        count = config.couplings if channels > 1 else 0
        self.couplings = nn.ModuleList(
            GridCoupling(channels, config, generator=generator) for _ in range(count)
        )
        self.of_low = nn.Conv2d(low, config.context, 3, padding=1) if low else None
        self.register_buffer("low_mean", torch.zeros(low))
        self.register_buffer("low_std", torch.ones(low))

    def embed(self, of_z: Tensor, low: Tensor | None = None) -> Tensor:
        """Return the embedding h `(B, context, h, w)` of the condition's and of the coarse grid."""
        if self.of_low is None or low is None:
            return functional.silu(of_z)
        # Far outside of what was seen the coarse grid says no more than that it is far outside.
        seen = ((low - self.low_mean[:, None, None]) / self.low_std[:, None, None]).clamp(-20, 20)
        return functional.silu(of_z + self.of_low(seen))

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        x, log_det = self.whitening(x)
        x, change = self.affine(x, h)
        log_det = log_det + change
        for coupling in self.couplings:
            x, change = coupling(x, h)
            log_det = log_det + change
        return x, log_det

    def inverse(self, v: Tensor, h: Tensor) -> Tensor:
        for coupling in reversed(self._couplings):
            v = coupling.inverse(v, h)
        return self.whitening.inverse(self.affine.inverse(v, h))

    def start(self, details: Tensor, low: Tensor | None) -> None:
        self.whitening.start(details)
        if low is not None:
            self.low_mean.copy_(low.mean((0, 2, 3)))
            self.low_std.copy_(low.std((0, 2, 3)).clamp_min(1e-6))

    @property
    def _couplings(self) -> list[GridCoupling]:
        return [coupling for coupling in self.couplings if isinstance(coupling, GridCoupling)]


class _Embedder(nn.Module):
    """H(z): the condition on the grid of each level."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: WaveletConfig, inputs: int) -> None:
        super().__init__()
        k = config.context
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("std", torch.ones(inputs))
        self.first = nn.Conv2d(inputs, k, 1)
        self.wide = nn.Conv2d(k, k, 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(k, k, 2, stride=2) for _ in range(config.levels - 1))
        self.top = nn.Conv2d(k, k, 3, padding=1)

    def forward(self, condition: Tensor) -> tuple[Tensor, ...]:
        with mixed_precision(condition.device, self.training):
            h = self.first((condition - self.mean[:, None, None]) / self.std[:, None, None])
            grids = [h + self.wide(functional.silu(h))]
            for down in self.down:
                grids.append(down(functional.silu(grids[-1])))
            grids.append(self.top(functional.silu(grids[-1])))
        return tuple(grid.to(condition.dtype) for grid in grids)

    def observe(self, condition: Tensor) -> None:
        condition = in_float64(condition)
        self.mean.copy_(condition.mean((0, 2, 3)))
        std = condition.std((0, 2, 3))
        self.std.copy_(torch.where(std > 1e-6, std, torch.ones_like(std)))
