"""A linear layer and Gaussian images: p(x|z) in closed form against a flow that was trained on samples (E5)."""

__all__ = ["LinearCase", "check_linear"]

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from invkit.flow.cinn import CINN
from invkit.flow.config import CinnConfig
from invkit.flow.table import CodeTable
from invkit.flow.train import nll_rows, train_cinn
from invkit.pipeline.validate_gaussian import Conditional, GaussianField, conditional
from invkit.pipeline.validate_rows import Row, Seeds
from invkit.split.split import Split
from invkit.training.progress import Progress
from invkit.training.seeds import generator

LOG_VAR = -4.0  # of the dequantising noise, in units of the code
REPEATS = 200
QUANTILE = 0.975


@dataclass(frozen=True)
class LinearCase:
    """What is trained and drawn.

    Args:
        size: side of the images, pixels.
        rows: images that the flow is trained on.
        held_out: images that decide when to stop, and as many others that it is judged on.
        draws: samples of one image whose covariance is compared.
        subspace: samples of one image whose principal directions are compared.
        config: of the flow; `d` is the number of pixels.
    """

    size: int = 16
    rows: int = 24_000
    held_out: int = 2048
    draws: int = 512
    subspace: int = 32_768
    config: CinnConfig = field(default_factory=lambda: CinnConfig(steps=300, evaluate_every=100))


def check_linear(
    split: Split,
    kept: Tensor,
    seeds: Seeds,
    *,
    case: LinearCase | None = None,
    progress: Progress | None = None,
) -> list[Row]:
    """Train a flow on codes of images given z, and hold its likelihood and its samples against the closed form.

    Args:
        split: the layer.
        kept: orthonormal basis of what z is said to keep, `(size^2, r)`.
        seeds: of images, training and samples.
        case: sizes.
        progress: is told how far the training is.
    """
    case = case or LinearCase()
    images = GaussianField(case.size)
    truth = conditional(images, kept, float(torch.tensor(LOG_VAR).exp()))

    def table(name: str, n: int) -> tuple[Tensor, CodeTable]:
        x = images.draw(n, seeds.generator(name))
        z = torch.cat([_flat(split, part) for part in torch.split(x, 1024)])
        return x, CodeTable(truth.code(x).float(), torch.full((n, truth.d), LOG_VAR), z)

    (_, train), (_, held_out), (x, test) = (
        table(name, n)
        for name, n in (("train", case.rows), ("held out", case.held_out), ("test", case.held_out))
    )
    cinn = CINN(case.config, train.condition_shape)
    with tempfile.TemporaryDirectory() as folder:
        train_cinn(
            cinn,
            train,
            held_out,
            Path(folder),
            seed=seeds.number("training"),
            progress=progress,
            stage=seeds.name,
        )
    judged = seeds.number("judged")
    # The codes that nll_rows judges.
    noisy = test.sample(generator(judged, "held-out posterior", 0))
    gap = nll_rows(cinn, test, judged).double() - truth.nll_rows(noisy, x)
    v = torch.randn(case.subspace, 1, truth.d, generator=seeds.generator("v"))
    with torch.no_grad():
        samples = cinn.sample(test.condition[:1], v)[:, 0].double()
    error = _covariance_error(samples[: case.draws], truth)
    expected = _monte_carlo(truth, case.draws, seeds)
    name = seeds.name
    return [
        Row(
            f"{name}.nll",
            "NLL of the trained flow less that of p(x|z), nats per dimension, absolute",
            abs(float(gap.mean())),
            0.02,
        ),
        Row(
            f"{name}.angles",
            "mean cosine of the leading rank/2 principal angles, samples to the conditional covariance",
            _mean_cosine(samples, truth),
            0.95,
            ">=",
        ),
        Row(
            f"{name}.covariance",
            f"relative error of the covariance of {case.draws} samples, within 97.5 % of exact draws",
            error,
            float(expected.quantile(QUANTILE)),
        ),
    ]


def _flat(split: Split, x: Tensor) -> Tensor:
    z = split.phi(x)
    return (z if isinstance(z, Tensor) else torch.cat([part.flatten(1) for part in z], 1)).flatten(1)


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
