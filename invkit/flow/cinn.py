"""The conditional invertible network t(z_bar | z): codes to invariances and back."""

__all__ = ["CINN"]

import math

import torch
from torch import Tensor, nn

from invkit.errors import DataError, UsageError
from invkit.flow.affine import ConditionalAffine, Whitening
from invkit.flow.base import Part
from invkit.flow.config import CinnConfig
from invkit.flow.coupling import Block
from invkit.flow.embedder import make_embedder
from invkit.flow.regression import fit_start
from invkit.flow.table import CodeTable
from invkit.training.precision import autocast, in_float64
from invkit.training.seeds import derive_seed, generator

AFFINE_CLAMP = 4.0
LARGEST_REGRESSION = 2048
FIRST_BATCH = 4096
ROWS_AT_ONCE = 2048


class CINN(Part):
    """v = t(z_bar | z) with v ~ N(0, 1) and independent of z when trained (Rombach et al. 2020).

    A conditional affine part and a whitening (both with a start in closed form, see `initialise`), then
    blocks of ActNorm, double affine coupling and fixed mixing. It maps by the contract of `Part`, with h =
    `embed(condition)`.

    Args:
        config: sizes.
        condition_shape: shape of one condition, without the batch.

    Raises:
        ConfigError: the embedder asked for does not fit the condition.

    Example:
        >>> import torch
        >>> cinn = CINN(CinnConfig(d=8, blocks=2, hidden=16, context=4), (8,))
        >>> condition, v = torch.zeros(3, 8), torch.zeros(5, 3, 8)
        >>> cinn.sample(condition, v).shape
        torch.Size([5, 3, 8])
        >>> cinn.nll(torch.zeros(3, 8), condition).shape
        torch.Size([3])
    """

    initialised: Tensor

    def __init__(self, config: CinnConfig, condition_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.config, self.condition_shape = config, tuple(condition_shape)
        source = generator(config.seed, "start")
        self.embedder = make_embedder(self.condition_shape, config, generator=source)
        self.affine = ConditionalAffine(AFFINE_CLAMP) if config.affine else None
        self.whitening = Whitening(config.d) if config.affine else None
        self.blocks = nn.ModuleList(
            Block(
                config.d,
                config.context,
                config,
                seed=derive_seed(config.seed, "mixing", index),
                generator=source,
            )
            for index in range(config.blocks)
        )
        self.register_buffer("initialised", torch.zeros((), dtype=torch.bool))

    def embed(self, condition: Tensor) -> Tensor:
        """Map conditions `(B, ...)` to h `(B, k)`.

        Raises:
            DataError: the conditions have another shape than the network was made for.
        """
        if tuple(condition.shape[1:]) != self.condition_shape:
            raise DataError(
                f"this flow expects conditions (B, {', '.join(map(str, self.condition_shape))}), "
                f"got {tuple(condition.shape)}"
            )
        h: Tensor = self.embedder(condition)
        return h

    def _split(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the affine part and what the blocks are conditioned on."""
        solved = 2 * self.config.d if self.config.affine else 0
        return h[..., :solved], h[..., solved:]

    def _parts(self, h: Tensor) -> list[tuple[Part, Tensor]]:
        expected, context = self._split(h)
        first = [(part, expected) for part in (self.affine, self.whitening) if part is not None]
        blocks = [(block, context) for block in self.blocks if isinstance(block, Part)]
        return [*first, *blocks]

    def forward(self, z_bar: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Map codes z_bar ``(B, d)`` to v ``(B, d)``; the second value is log_det ``(B,)``."""
        v, log_det = z_bar, z_bar.new_zeros(z_bar.shape[:-1])
        with autocast(z_bar.device, enabled=False):
            for part, condition in self._parts(h):
                v, of_part = part(v, condition)
                log_det = log_det + of_part
        return v, log_det

    def inverse(self, v: Tensor, h: Tensor) -> Tensor:
        """Map v ``(B, d)`` or ``(N, B, d)`` back to codes."""
        z_bar = v
        with autocast(v.device, enabled=False):
            for part, condition in reversed(self._parts(h)):
                z_bar = part.inverse(z_bar, condition)
        return z_bar

    def nll(self, z_bar: Tensor, condition: Tensor) -> Tensor:
        """Return -log p(z_bar | condition) / d, shape `(B,)`: nats per dimension, with the 1/2 log 2 pi.

        ``(1/2 |v|^2 + d/2 log 2 pi - log_det) / d`` (the loss of Rombach et al. 2020).

        Args:
            z_bar: codes, shape `(B, d)`; posterior samples where the figure is to have a floor.
            condition: shape `(B, ...)`.
        """
        v, log_det = self(z_bar, self.embed(condition))
        d = z_bar.shape[-1]
        nll: Tensor = (0.5 * v.square().sum(-1) - log_det) / d + 0.5 * math.log(2 * math.pi)
        return nll

    def sample(self, condition: Tensor, v: Tensor) -> Tensor:
        """Return codes z_bar = t^-1(v | condition), in the shape of v.

        The condition is embedded once for each image, however many samples there are.

        Args:
            condition: shape `(B, ...)`.
            v: N draws of N(0, 1) for each image, shape `(N, B, d)`; or the same flattened, `(N * B, d)`.

        Raises:
            UsageError: v does not hold whole draws for all images.
        """
        images = len(condition)
        if v.shape[-1] != self.config.d or v.ndim not in (2, 3) or v[..., 0].numel() % images:
            raise UsageError(
                f"v must be (N, {images}, {self.config.d}) or (N * {images}, {self.config.d}), "
                f"got {tuple(v.shape)}"
            )
        if v.ndim == 3 and v.shape[1] != images:
            raise UsageError(f"v is for {v.shape[1]} images, the condition for {images}")
        h = self.embed(condition)
        # What the couplings compute of so many rows stays in the processor's cache.
        parts = torch.split(v.reshape(-1, images, self.config.d), max(1, ROWS_AT_ONCE // images))
        return torch.cat([self.inverse(part, h) for part in parts]).reshape(v.shape)

    @torch.no_grad()
    def initialise(self, table: CodeTable, *, seed: int = 0) -> None:
        """Set the start of every part from the training rows.

        The embedder's readout becomes the regression of the codes on the condition (`fit_start`), the
        whitening the Cholesky factor of what is left, with the posterior's own variance counted exactly; then
        each ActNorm is set from one batch of posterior samples. Where codes and condition are jointly normal,
        the flow is then already what training would find. Features of more than 2,048 numbers get no
        regression, only the mean code.

        Args:
            table: training rows.
            seed: of the posterior samples.

        Raises:
            DataError: codes or conditions have another shape than the network was made for.
        """
        if table.d != self.config.d:
            raise DataError(f"this flow expects codes of {self.config.d} numbers, the table's have {table.d}")
        self.embedder.initialise(table.condition[:FIRST_BATCH])
        if self.affine is not None and self.whitening is not None:
            features = torch.cat(
                [self.embedder.features(rows) for rows in torch.split(table.condition, 1024)]
            )
            if features.shape[1] > LARGEST_REGRESSION:
                features = torch.zeros_like(features)
            start = fit_start(features, table.mean, table.log_var)
            self.embedder.set_start(start)
            self._whiten(self.affine, self.whitening, table, start.inflation)
        first = table.rows(slice(FIRST_BATCH))
        v = first.sample(generator(seed, "first batch"))
        for part, condition in self._parts(self.embed(first.condition)):
            if isinstance(part, Block):
                part.initialise(v, condition)
            v = part(v, condition)[0]
        self.initialised.fill_(True)

    def _whiten(
        self, affine: ConditionalAffine, whitening: Whitening, table: CodeTable, inflation: Tensor
    ) -> None:
        """Give the whitening the moments of what leaves the affine part, over posterior samples."""
        expected = torch.cat(
            [self._split(self.embed(rows))[0] for rows in torch.split(table.condition, 1024)]
        )
        left = in_float64(affine(table.mean, expected)[0])
        left = left * inflation.to(left)
        log_var = in_float64(table.log_var) + 2.0 * in_float64(affine.log_precision(expected))
        variance = log_var.exp().mean(0)
        mean = left.mean(0)
        centred = left - mean
        whitening.set_moments(mean, centred.T @ centred / len(left) + variance.diag())
