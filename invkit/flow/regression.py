"""Closed-form start: linear prediction of the mean code and of the variance around it, from features."""

__all__ = ["LinearStart", "fit_start"]

from dataclasses import dataclass

import torch
from torch import Tensor

from invkit.training.precision import in_float64

PENALTIES = tuple(10.0**power for power in range(-5, 4))
HELD_OUT = 0.2
SCORING_STEPS = 4
LARGEST_RATIO = 10.0


@dataclass(frozen=True)
class LinearStart:
    """Linear maps from features `(f,)` to the mean m and the log-precision s of a code.

    Args:
        mean_weight: shape `(d, f)`.
        mean_bias: shape `(d,)`.
        scale_weight: shape `(d, f)`.
        scale_bias: shape `(d,)`; s is 0 where nothing is known, so it is relative to the mean variance.
        inflation: factor on residuals that makes up for the degrees of freedom spent on the fit, shape
            `(d,)`.
    """

    mean_weight: Tensor
    mean_bias: Tensor
    scale_weight: Tensor
    scale_bias: Tensor
    inflation: Tensor


@dataclass(frozen=True)
class _Basis:
    """Eigenbasis of the features' second moments: ridge regression is diagonal in it."""

    centre: Tensor
    vectors: Tensor
    values: Tensor
    rotated: Tensor

    @classmethod
    def of(cls, features: Tensor) -> "_Basis":
        centre = features.mean(0)
        centred = features - centre
        values, vectors = torch.linalg.eigh(centred.T @ centred / len(features))
        return cls(centre, vectors, values.clamp_min(0.0), centred @ vectors)

    def rotate(self, features: Tensor) -> Tensor:
        return (features - self.centre) @ self.vectors

    def moments(self, targets: Tensor) -> Tensor:
        return self.rotated.T @ targets / len(targets)

    def solve(self, moments: Tensor, penalty: Tensor | float) -> Tensor:
        return moments / (self.values[:, None] + penalty)


def fit_start(features: Tensor, mean: Tensor, log_var: Tensor) -> LinearStart:
    """Fit m and s by ridge regression, each dimension with the penalty that predicts a held-out fifth best.

    m is least squares. s is the maximum-likelihood log-linear model of the expected squared deviation of a
    posterior sample, q = (mean - m)^2 + exp(log_var): a Gamma regression with logarithmic link, whose Fisher
    scoring steps have weights of one and so reuse the same decomposition (McCullagh and Nelder 1989, section
    8.3). Its loss, (log variance + q / variance) / 2, is the Gaussian NLL itself.

    Args:
        features: shape `(n, f)`.
        mean: posterior means, shape `(n, d)`.
        log_var: posterior log-variances, shape `(n, d)`.
    """
    features, mean, log_var = in_float64(features), in_float64(mean), in_float64(log_var)
    kept = len(features) - int(HELD_OUT * len(features))
    part = _Basis.of(features[:kept])
    held_out = part.rotate(features[kept:])
    whole = _Basis.of(features)

    centre = mean[:kept].mean(0)
    moments = part.moments(mean[:kept] - centre)
    losses = [
        (mean[kept:] - centre - held_out @ part.solve(moments, penalty)).square().mean(0)
        for penalty in PENALTIES
    ]
    penalty = _best(losses)
    centre = mean.mean(0)
    coefficients = whole.solve(whole.moments(mean - centre), penalty)
    freedom = (whole.values[:, None] / (whole.values[:, None] + penalty)).sum(0)
    inflation = (len(mean) / (len(mean) - freedom).clamp_min(0.1 * len(mean))).sqrt()
    residual = (mean - centre - whole.rotated @ coefficients) * inflation
    squared = residual.square() + log_var.exp()

    # the first scoring step from a constant variance is enough to choose the penalty
    level = squared[:kept].mean(0)
    moments = part.moments((squared[:kept] / level - 1.0).clamp_max(LARGEST_RATIO))
    losses = []
    for strength in PENALTIES:
        eta = held_out @ part.solve(moments, strength)
        losses.append((eta + squared[kept:] / level * (-eta).exp()).mean(0))
    strength_of = _best(losses)
    level = squared.mean(0)
    eta = torch.zeros_like(squared)
    for _ in range(SCORING_STEPS):
        response = eta + (squared / level * (-eta).exp() - 1.0).clamp_max(LARGEST_RATIO)
        slope = whole.solve(whole.moments(response - response.mean(0)), strength_of)
        eta = whole.rotated @ slope

    mean_weight = (whole.vectors @ coefficients).T
    scale_weight = -0.5 * (whole.vectors @ slope).T
    return LinearStart(
        mean_weight=mean_weight,
        mean_bias=centre - mean_weight @ whole.centre,
        scale_weight=scale_weight,
        scale_bias=-(scale_weight @ whole.centre),
        inflation=inflation,
    )


def _best(losses: list[Tensor]) -> Tensor:
    stacked = torch.stack(losses)
    chosen = torch.where(torch.isfinite(stacked), stacked, torch.inf).argmin(0)
    return torch.tensor(PENALTIES, dtype=stacked.dtype, device=stacked.device)[chosen]
