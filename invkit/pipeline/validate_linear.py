"""A linear layer and Gaussian images: p(x|z) in closed form against a flow that was trained on samples (E5)."""

__all__ = ["GAP", "LARGEST_GAP", "LOG_VAR", "LinearCase", "Trained", "check_linear", "train_flow"]

import math
import tempfile
from collections.abc import Callable
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
REPEATS = 400
QUANTILE = 0.995
LARGEST_GAP = 0.02  # nats per dimension
GAP = "NLL of the trained flow less that of p(x|z), nats per dimension, absolute"


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


@dataclass(frozen=True)
class Trained:
    """A flow after training, and images it has not seen.

    Args:
        cinn: the flow.
        x: the images, `(n, 1, size, size)`, HU.
        table: their codes and conditions.
        seed: of the noise that the codes are judged with.
    """

    cinn: CINN
    x: Tensor
    table: CodeTable
    seed: int

    def gap(self, nll_of: Callable[[Tensor, Tensor], Tensor]) -> float:
        """Return the mean NLL less that of `nll_of(codes, x)` on the same noisy codes, nats per dimension, absolute."""
        # The codes that nll_rows judges.
        codes = self.table.sample(generator(self.seed, "held-out posterior", 0))
        rows = nll_rows(self.cinn, self.table, self.seed).double() - nll_of(codes, self.x)
        return abs(float(rows.mean()))


def train_flow(
    split: Split,
    draw: Callable[[int, torch.Generator], Tensor],
    truth: Conditional,
    seeds: Seeds,
    case: LinearCase,
    progress: Progress | None,
) -> Trained:
    """Train a flow on the codes of images that `draw` makes, given z, as it is trained for any layer."""

    def table(name: str, n: int) -> tuple[Tensor, CodeTable]:
        x = draw(n, seeds.generator(name))
        z = torch.cat([_flat(split, part) for part in torch.split(x, 1024)])
        return x, CodeTable(truth.code(x).float(), torch.full((n, truth.d), LOG_VAR), z)

    (_, train), (_, held_out) = table("train", case.rows), table("held out", case.held_out)
    x, test = table("test", case.held_out)
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
    return Trained(cinn, x, test, seeds.number("judged"))


def check_linear(
    split: Split,
    kept: Tensor,
    seeds: Seeds,
    *,
    case: LinearCase | None = None,
    progress: Progress | None = None,
) -> list[Row]:
    """Hold likelihood and samples of a trained flow against the closed form.

    Args:
        split: the layer.
        kept: orthonormal basis of what z is said to keep, `(size^2, r)`.
        seeds: of images, training and samples.
        case: sizes.
        progress: is told how far the training is.
    """
    case = case or LinearCase()
    images = GaussianField(case.size)
    truth = conditional(images, kept, math.exp(LOG_VAR))
    trained = train_flow(split, images.draw, truth, seeds, case, progress)
    v = torch.randn(case.subspace, 1, truth.d, generator=seeds.generator("v"))
    with torch.no_grad():
        samples = trained.cinn.sample(trained.table.condition[:1], v)[:, 0].double()
    expected = _monte_carlo(truth, case.draws, seeds)
    return [
        Row(f"{seeds.name}.nll", GAP, trained.gap(truth.nll_rows), LARGEST_GAP),
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
