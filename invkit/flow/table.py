"""The rows that the flow is trained on: posterior of each code, and its condition."""

__all__ = ["CodeTable", "gaussian_nll", "posterior_entropy", "posterior_entropy_rows"]

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from invkit.artifacts import state_fingerprint
from invkit.errors import DataError
from invkit.training.precision import in_float64


@dataclass(frozen=True)
class CodeTable:
    """Codes and conditions of n images.

    Args:
        mean: mean of the posterior of E, shape `(n, d)`.
        log_var: logarithm of its variance, shape `(n, d)`.
        condition: z or what stands for it, shape `(n, ...)`.

    Raises:
        DataError: the shapes disagree, there are no rows, or a number is not finite.
    """

    mean: Tensor
    log_var: Tensor
    condition: Tensor

    def __post_init__(self) -> None:
        shapes = f"mean {tuple(self.mean.shape)}, log_var {tuple(self.log_var.shape)}, " + (
            f"condition {tuple(self.condition.shape)}"
        )
        if self.mean.ndim != 2 or self.mean.shape != self.log_var.shape or self.condition.ndim < 2:
            raise DataError(
                f"a code table needs mean and log_var (n, d) and condition (n, ...); got {shapes}"
            )
        if len(self.mean) == 0 or len(self.condition) != len(self.mean):
            raise DataError(f"a code table needs as many conditions as codes, and at least one; got {shapes}")
        for name in ("mean", "log_var", "condition"):
            bad = int((~torch.isfinite(getattr(self, name))).sum())
            if bad:
                raise DataError(
                    f"{bad} numbers of {name} are not finite; "
                    "check the encoder and the denoiser that made the table"
                )

    def __len__(self) -> int:
        return len(self.mean)

    @property
    def d(self) -> int:
        """Size of a code."""
        return self.mean.shape[1]

    @property
    def condition_shape(self) -> tuple[int, ...]:
        """Shape of one condition."""
        return tuple(self.condition.shape[1:])

    def rows(self, index: Tensor | slice) -> "CodeTable":
        """Return the table of these rows."""
        return CodeTable(self.mean[index], self.log_var[index], self.condition[index])

    def fingerprint(self) -> str:
        """Return a sha256 of all numbers, for provenance."""
        return state_fingerprint({"mean": self.mean, "log_var": self.log_var, "condition": self.condition})

    def sample(self, generator: torch.Generator) -> Tensor:
        """Return one posterior sample z_bar = mean + exp(log_var / 2) * noise for each row, `(n, d)`.

        The noise is drawn on the generator's device, then moved, so that it is the same wherever the table
        lies.
        """
        noise = torch.randn(self.mean.shape, generator=generator, device=generator.device)
        return self.mean + (0.5 * self.log_var).exp() * noise.to(self.mean)


def gaussian_nll(mean: Tensor, log_var: Tensor, guess: Tensor) -> float:
    """Return the NLL of posterior samples under N(guess, s_i^2) with the best variances s_i^2, nats per dimension.

    It is what a guess of the posterior's mean is worth to a flow that only scales: 1/2 log(2 pi e s_i^2), averaged over i, where
    s_i^2 is the mean over the rows of (mean - guess)^2 + exp(log_var).

    Args:
        mean: of the posteriors, `(n, d)`.
        log_var: logarithm of their variances, `(n, d)`.
        guess: of the means, `(n, d)`.
    """
    variance = (in_float64(mean - guess).square() + in_float64(log_var).exp()).mean(0)
    return float(0.5 * (math.log(2 * math.pi * math.e) + variance.log().mean()))


def posterior_entropy_rows(table: CodeTable) -> Tensor:
    """Return each row's posterior entropy, `(n,)`, nats per dimension: 1/2 log(2 pi e sigma^2), averaged."""
    return 0.5 * (math.log(2 * math.pi * math.e) + table.log_var.mean(1))


def posterior_entropy(table: CodeTable) -> float:
    """Return E[H(q)], nats per dimension: the lower bound of the NLL where z determines the image (z = x).

    The code is z_bar ~ q(z_bar | x), so H(z_bar | z) >= H(z_bar | x, z) = H(q), with equality where z fixes
    q.
    """
    return float(in_float64(posterior_entropy_rows(table)).mean())
