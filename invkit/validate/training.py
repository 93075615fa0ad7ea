"""A flow trained on images of a known distribution, by the code that trains it for any layer."""

__all__ = ["LOG_VAR", "Case", "Trained", "train_flow"]

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from invkit.calibration.sbc import check_sbc, random_directions, run_sbc
from invkit.calibration.tarp import check_tarp, run_tarp
from invkit.flow.cinn import CINN
from invkit.flow.config import CinnConfig
from invkit.flow.table import CodeTable
from invkit.flow.train import nll_rows, train_cinn
from invkit.split.split import Split
from invkit.training.processes.interrupt import Interrupted
from invkit.training.progress import Progress
from invkit.training.seeds import derive_seed, generator
from invkit.validate.gaussian import Conditional
from invkit.validate.rows import Row, Seeds

LOG_VAR = -4.0  # of the dequantising noise, in units of the code
LARGEST_GAP = 0.02  # nats per dimension
TRUTHS, DRAWS, DIRECTIONS = 2048, 99, 32  # of the calibration
LEVEL = 0.99
LARGEST_AREA = 0.02  # coverage is then off by 4 % on average


@dataclass(frozen=True)
class Case:
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

    def gap(self, name: str, nll_of: Callable[[Tensor, Tensor], Tensor]) -> Row:
        """Return the row of the mean NLL less that of `nll_of(codes, x)` on the same noisy codes."""
        # The codes that nll_rows judges.
        codes = self.table.sample(generator(self.seed, "held-out posterior", 0))
        rows = nll_rows(self.cinn, self.table, self.seed).double() - nll_of(codes, self.x)
        measure = "NLL of the trained flow less that of p(x|z), nats per dimension, absolute"
        return Row(f"{name}.nll", measure, abs(float(rows.mean())), LARGEST_GAP)

    @torch.no_grad()
    def calibration(self, name: str) -> list[Row]:
        """Return the rows of simulation-based calibration and of TARP on images that the flow has not seen."""
        table = self.table.rows(slice(TRUTHS))
        truth = table.sample(generator(self.seed, "truth"))
        drawn = torch.randn(DRAWS, *truth.shape, generator=generator(self.seed, "draws"))
        codes = torch.stack([self.cinn.inverse(v, self.cinn.embed(table.condition)) for v in drawn])
        seed = derive_seed(self.seed, "calibration")
        ways = random_directions(table.d, DIRECTIONS, seed=seed)
        ranks = run_sbc(truth, codes, seed=seed).joined(
            run_sbc(truth, codes, ways, name="projection", seed=seed)
        )
        area = check_tarp(run_tarp(truth, codes, seed=seed), seed=seed).area
        return [
            Row(
                f"{name}.sbc",
                f"largest departure from uniform of the ranks of {len(ranks.names)} quantities, over that of the 99 % band",
                check_sbc(ranks, level=LEVEL, seed=seed).uniformity.largest,
                1.0,
            ),
            Row(
                f"{name}.tarp",
                "area between expected coverage and credibility over credibilities of 0.5 and more, absolute",
                abs(area.value),
                LARGEST_AREA,
            ),
        ]


def train_flow(
    split: Split,
    draw: Callable[[int, torch.Generator], Tensor],
    truth: Conditional,
    seeds: Seeds,
    case: Case,
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
        try:
            train_cinn(
                cinn,
                train,
                held_out,
                Path(folder),
                seed=seeds.number("training"),
                progress=progress,
                stage=seeds.name,
            )
        except Interrupted as stopped:
            # Its own message promises a checkpoint to go on from; this folder is about to go.
            raise Interrupted(stopped.signal, "stopped by a signal; a validation begins anew") from None
    return Trained(cinn, x, test, seeds.number("judged"))


def _flat(split: Split, x: Tensor) -> Tensor:
    z = split.phi(x)
    return (z if isinstance(z, Tensor) else torch.cat([part.flatten(1) for part in z], 1)).flatten(1)
