"""A linear layer and Gaussian images: p(x|z) in closed form against a flow that was trained on samples."""

__all__ = ["check_linear"]

import math

import torch
from torch import Tensor

from invkit.split.split import Split
from invkit.training.progress import Progress
from invkit.validate.gaussian import Conditional, GaussianField, conditional
from invkit.validate.rows import Row, Seeds
from invkit.validate.training import LOG_VAR, Case, train_flow

REPEATS = 400
QUANTILE = 0.995


def check_linear(
    split: Split,
    kept: Tensor,
    seeds: Seeds,
    *,
    case: Case | None = None,
    progress: Progress | None = None,
) -> list[Row]:
    """Hold likelihood and samples of a trained flow against the closed form.

    Args:
        split: the layer.
        kept: orthonormal basis of what z is said to keep, `(size^2, r)`.
        seeds: of images, training and samples.
        case: sizes.
        progress: receives the progress of the training.
    """
    case = case or Case()
    images = GaussianField(case.size)
    truth = conditional(images, kept, math.exp(LOG_VAR))
    trained = train_flow(split, images.draw, truth, seeds, case, progress)
    v = torch.randn(case.subspace, 1, truth.d, generator=seeds.generator("v"))
    with torch.no_grad():
        samples = trained.cinn.sample(trained.table.condition[:1], v)[:, 0].double()
    expected = _monte_carlo(truth, case.draws, seeds)
    return [
        trained.gap(seeds.name, truth.nll_rows),
        Row(
            f"{seeds.name}.angles",
            "mean cosine of the leading rank/2 principal angles, samples to the conditional covariance",
            _mean_cosine(samples, truth),
            0.95,
            ">=",
        ),
        Row(
            f"{seeds.name}.covariance",
            f"relative error of the covariance of {case.draws} samples, within 99.5 % of exact draws",
            _covariance_error(samples[: case.draws], truth),
            float(expected.quantile(QUANTILE)),
        ),
        *trained.calibration(seeds.name),
    ]


def _covariance_error(samples: Tensor, truth: Conditional) -> float:
    return float((torch.cov(samples.T) - truth.covariance).norm() / truth.covariance.norm())


def _monte_carlo(truth: Conditional, draws: int, seeds: Seeds) -> Tensor:
    """Return the covariance error of as many draws from p(x|z) itself, time and again, `(REPEATS,)`."""
    root = torch.linalg.cholesky(truth.covariance)
    source = seeds.generator("monte carlo")
    exact = (
        torch.randn(draws, truth.d, generator=source, dtype=torch.float64) @ root.T for _ in range(REPEATS)
    )
    return torch.tensor([_covariance_error(samples, truth) for samples in exact], dtype=torch.float64)


def _mean_cosine(samples: Tensor, truth: Conditional) -> float:
    """Return the mean cosine of the principal angles between the leading eigenvectors (Bjorck and Golub 1973)."""
    leading = truth.rank // 2
    found, exact = (
        torch.linalg.eigh(c).eigenvectors[:, -leading:] for c in (torch.cov(samples.T), truth.covariance)
    )
    return float(torch.linalg.svdvals(found.T @ exact).mean())
