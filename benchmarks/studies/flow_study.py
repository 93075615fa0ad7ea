"""Which flow is soonest: held-out NLL of flows at equal steps and equal time, and why random masks beat half-splits.

    OMP_NUM_THREADS=1 python benchmarks/studies/flow_study.py --steps 400 --seconds 30
    OMP_NUM_THREADS=1 python benchmarks/studies/flow_study.py --why

All flows see the same codes of the same phantoms: E's posterior given the code of g(z), which is what `invkit analyze` trains a
layer's cINN on; VAE and regressor are the bundled ones. Each is trained by `CinnTask` on one thread, with the same rows, noise
and schedule (a cosine over the run): once for `--steps` steps, once for `--seconds` of processor time. What is kept is the best of
the looks at the validation patients, that before the first step among them; figures are those of the test patients.
"""

from __future__ import annotations

import argparse
import copy
import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from flow_rows import Rival, flows, masks, real_nvp, together, unmixed
from layer_parts import layer_parts
from torch import Tensor, nn

from invkit.flow.cinn import CINN
from invkit.flow.config import CinnConfig
from invkit.flow.store import round_half
from invkit.flow.table import CodeTable, posterior_entropy
from invkit.flow.train import CinnTask, nll_rows
from invkit.parts.layer import LayerTraining
from invkit.statistics.intervals import Interval, bootstrap
from invkit.training.engine import Shard
from invkit.training.optimiser import cosine
from invkit.training.seeds import generator

__all__ = ["Rows", "as_stored", "code_rows", "dependence", "linear_gaussian", "main"]

WHOLE = Shard(0, 1)
MANY = 1_000_000
D, HALF = 64, 32
RIDGE = 1e-3


@dataclass(frozen=True)
class Rows:
    """The codes that flows are trained, stopped and judged on.

    Args:
        train: codes of training patients.
        validation: of those that decide which state is kept.
        test: of those that the figures are for.
        patients: who each test row is of, `(n,)`.
    """

    train: CodeTable
    validation: CodeTable
    test: CodeTable
    patients: Tensor


def code_rows(model: str, layer: str, kept: Path | None) -> Rows:
    """Return the codes of a layer with a bundled or cached cINN; with a file to keep them in, they are made once."""
    if kept is not None and kept.exists():
        columns = torch.load(kept)
    else:
        request, found = layer_parts(model, layer)
        columns = {}
        with tempfile.TemporaryDirectory() as folder:
            training = LayerTraining(request, Path(folder), None)
            for part in ("train", "validation", "test"):
                rows = training._table(part, found.regressor)
                table = rows.table
                columns[part] = (table.mean, table.log_var, table.condition, rows.patients)
        if kept is not None:
            torch.save(columns, kept)
    tables = {part: CodeTable(*found[:3]) for part, found in columns.items()}
    return Rows(tables["train"], tables["validation"], tables["test"], columns["test"][3])


@dataclass(frozen=True)
class Run:
    """One training.

    Args:
        steps: how many there were.
        seconds: of processor time, looks at held-out rows left out.
        last: NLL of each test row in the last state, `(n,)`, nats per dimension.
        rows: the same in the state that was kept.
        kept: steps of that state.
        looks: (steps, seconds, validation NLL), the first before any step.
        parameters: of the whole flow.
    """

    steps: int
    seconds: float
    last: np.ndarray
    rows: np.ndarray
    kept: int
    looks: list[tuple[int, float, float]]
    parameters: int

    def reaches(self, level: float) -> str:
        """Return processor seconds and steps of the first look that is at the level or below."""
        for steps, seconds, nll in self.looks:
            if nll <= level:
                return f"{seconds:.1f} s, {steps}"
        return "not"


def _step(task: CinnTask, step: int, rate: float) -> None:
    optimiser = task.optimizers["main"]
    for group in optimiser.param_groups:
        group["lr"] = rate
    loss, _ = task.loss("main", step, WHOLE)
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(task.cinn.parameters(), task.config.clip_norm)
    optimiser.step()


class Study:
    """Trains rows by name on one set of codes.

    Args:
        rows: the codes.
        looks: at the held-out rows in each run.
    """

    def __init__(self, rows: Rows, looks: int) -> None:
        self.rows, self.looks = rows, looks
        self.made = flows()

    def run(self, name: str, *, steps: int = 0, seconds: float = math.inf) -> Run:
        """Train a row for so many steps, or else for so much processor time, which making its start is part of."""
        begun = time.process_time()
        flow = self.made[name][1](CinnConfig(steps=steps or MANY), self.rows.train)
        task = CinnTask(flow, self.rows.train, self.rows.validation, seed=0)
        config, spent, step = task.config, time.process_time() - begun, 0
        looks = [(0, spent, self._nll(task))]
        best, kept = looks[0][2], copy.deepcopy(flow.state_dict())
        done = 0.0
        while done < 1:
            begun = time.process_time()
            rise = min(1.0, (step + 1) / (config.warmup + 1))
            _step(task, step, cosine(config.lr, round(done * MANY), MANY) * rise)
            spent, step = spent + time.process_time() - begun, step + 1
            done = step / steps if steps else spent / seconds
            if done >= len(looks) / self.looks:
                looks.append((step, spent, self._nll(task)))
                if looks[-1][2] < best:
                    best, kept = looks[-1][2], copy.deepcopy(flow.state_dict())
        last = self._judged(flow)
        flow.load_state_dict(kept)
        return Run(
            steps=step,
            seconds=spent,
            last=last,
            rows=self._judged(flow),
            kept=min(looks, key=lambda look: look[2])[0],
            looks=looks,
            parameters=sum(each.numel() for each in flow.parameters()),
        )

    def _judged(self, flow: nn.Module) -> np.ndarray:
        found: np.ndarray = nll_rows(flow, self.rows.test, 0).double().numpy()
        return found

    def _nll(self, task: CinnTask) -> float:
        return float(nll_rows(task.cinn, self.rows.validation, 0).double().mean())

    def interval(self, values: np.ndarray) -> Interval:
        """Return a mean over test rows with its 95 % bootstrap interval over patients."""
        return bootstrap(values, groups=self.rows.patients.tolist())


def _shown(interval: Interval) -> str:
    return f"{interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]"


def dependence(covariance: Tensor) -> float:
    """Return the total correlation of a Gaussian, nats per dimension: what a flow of single dimensions leaves.

    ``(sum of log C_ii - log det C) / 2 d`` (Watanabe 1960).

    Args:
        covariance: C, shape `(d, d)`.
    """
    return float(0.5 * (covariance.diagonal().log().sum() - torch.logdet(covariance)) / len(covariance))


def of_codes(table: CodeTable) -> str:
    """Return in words how dependent the numbers of a code are by their covariance, and so what mixing is there for."""
    mean, condition = table.mean.double(), table.condition.flatten(1).double()
    own = table.log_var.double().exp().mean(0).diag()
    known = (condition - condition.mean(0)) / condition.std(0).clamp(min=1e-9)
    known = torch.cat([known, torch.ones(len(known), 1, dtype=known.dtype)], 1)
    ridge = RIDGE * torch.eye(known.shape[1], dtype=known.dtype)
    left = mean - known @ torch.linalg.solve(known.T @ known + ridge, known.T @ mean)
    found, half = [], table.d // 2
    for values in (mean, left):
        covariance = torch.cov(values.T) + own
        sides = dependence(covariance[:half, :half]) * half / table.d
        sides += dependence(covariance[half:, half:]) * (table.d - half) / table.d
        found.append(f"{dependence(covariance):.4f} (within halves {sides:.4f})")
    return (
        f"dependence in nats per dimension: codes {found[0]}, what regression on z leaves of them {found[1]}"
    )


def as_stored(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Return the NLL of each test row by the closed-form start, and by the same rounded to the half precision of files."""
    flow = CINN(CinnConfig(), rows.train.condition_shape)
    flow.initialise(rows.train)
    exact = nll_rows(flow, rows.test, 0).double().numpy()
    round_half(flow)
    return exact, nll_rows(flow, rows.test, 0).double().numpy()


def study(
    rows: Rows, names: list[str], *, steps: int, seconds: float, looks: int, levels: list[float]
) -> None:
    """Print the table as Markdown; differences are of the kept states at equal time from the first row's, pair by pair."""
    bench = Study(rows, looks)
    patients = len(rows.patients.unique())
    print(f"test rows: {len(rows.test)} of {patients} patients, floor {posterior_entropy(rows.test):.4f}")
    print(of_codes(rows.train))
    exact, stored = as_stored(rows)
    print(
        f"closed-form start: {exact.mean():.4f}; rounded as in files it loses {_shown(bench.interval(stored - exact))}"
    )
    columns = [
        "flow",
        "parameters",
        f"after {steps} steps",
        f"after {seconds:g} s",
        "steps",
        "kept",
        "kept minus the first row's",
        *(f"reaches {level:g}" for level in levels),
    ]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    first: Run | None = None
    for name in names:
        even = bench.run(name, steps=steps)
        timed = bench.run(name, seconds=seconds)
        first = first or timed
        cells = [
            bench.made[name][0],
            f"{timed.parameters:,}",
            _shown(bench.interval(even.last)),
            _shown(bench.interval(timed.last)),
            str(timed.steps),
            f"{timed.rows.mean():.4f} at {timed.kept}",
            "-" if timed is first else _shown(bench.interval(timed.rows - first.rows)),
            *(timed.reaches(level) for level in levels),
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


def linear_gaussian(within: bool, *, correlation: float = 0.9) -> Tensor:
    """Return a covariance `(D, D)` whose correlated pairs lie within one half of the dimensions, or across the two halves.

    Each of D / 2 pairs is rotated with the others of its kind, so that every dimension takes part: with R a fixed rotation, the
    covariance of two groups of dimensions is ``correlation * R``. Both have the same spectrum, hence the same entropy.
    """
    size = HALF // 2 if within else HALF
    rotation = torch.linalg.qr(
        torch.randn(size, size, generator=generator(0, "why", size), dtype=torch.float64)
    )[0]
    block = torch.eye(2 * size, dtype=torch.float64)
    block[:size, size:] = correlation * rotation
    block[size:, :size] = correlation * rotation.T
    return torch.block_diag(block, block) if within else block


class _Fresh(CinnTask):
    """Maximum likelihood of new draws in every step, so that nothing is learned by heart."""

    def __init__(self, flow: nn.Module, factor: Tensor) -> None:
        self.factor, self.condition = factor, torch.zeros(flow.config.batch, 1)
        super().__init__(flow, self._table(4096, "start"), self._table(64, "none"), seed=0)

    def _table(self, n: int, *purpose: object) -> CodeTable:
        drawn = torch.randn(n, D, generator=generator(0, *purpose)) @ self.factor.T
        return CodeTable(drawn, torch.full_like(drawn, -60.0), torch.zeros(n, 1))

    def loss(self, phase: str, step: int, shard: Shard) -> tuple[Tensor, dict[str, Tensor | float]]:
        table = self._table(self.config.batch, "draw", step)
        return self.cinn.nll(table.mean, table.condition).mean(), {}


def _toys(steps: int, table: CodeTable) -> dict[str, nn.Module]:
    config = CinnConfig(d=D, context=4, steps=steps, affine=False)
    return {
        "half-splits without mixing": unmixed(CINN(config, (1,))),
        "half-splits, order reversed": unmixed(CINN(config, (1,)), reverse=True),
        "permutation": CINN(config, (1,)),
        "rotation": CINN(config.model_copy(update={"mixing": "rotation"}), (1,)),
        "zuko, alternating masks": Rival(real_nvp(D, 1, 96, randmask=False), config, table),
        "zuko, random masks": Rival(real_nvp(D, 1, 96, randmask=True), config, table),
    }


def why(steps: int) -> None:
    """Print the gap to the entropy of Gaussians that differ only in which dimensions are correlated, nats of all dimensions."""
    print(
        f"| {D} dimensions, {steps} steps | pairs ever on different sides | gap, correlated within halves | across halves |"
    )
    print("|---|---|---|---|", flush=True)
    gaps: dict[str, list[str]] = {}
    shares: dict[str, str] = {}
    # What zuko's alternating masks part are even and odd dimensions: the halves are laid there for both of its flows.
    laid = torch.arange(D).reshape(2, HALF).T.flatten()
    for within in (True, False):
        covariance = linear_gaussian(within)
        ordered = torch.linalg.cholesky(covariance).float()
        normal, condition = torch.randn(8192, D, generator=generator(0, "judged")), torch.zeros(8192, 1)
        truth = 0.5 * (normal.square().sum(1) + D * math.log(2 * math.pi) + float(torch.logdet(covariance)))
        table = CodeTable(normal, torch.full_like(normal, -60.0), condition)
        for name, flow in _toys(steps, table).items():
            factor = ordered[laid] if isinstance(flow, Rival) else ordered
            task = _Fresh(flow, factor)
            for step in range(steps):
                _step(task, step, task.learning_rate("main", step))
            with torch.no_grad():
                gap = (D * flow.nll(normal @ factor.T, condition) - truth).double().mean()
            gaps.setdefault(name, []).append(f"{gap:.2f}")
            # Behind a rotation every dimension has a part in both halves.
            shares[name] = "all" if name == "rotation" else f"{100 * together(masks(flow)):.0f} %"
    for name, found in gaps.items():
        print(f"| {name} | {shares[name]} | {' | '.join(found)} |", flush=True)


def main() -> None:
    """Print what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="yang2018")
    parser.add_argument("--layer", default="3")
    parser.add_argument("--steps", type=int, default=400, help="of each flow at equal steps")
    parser.add_argument("--seconds", type=float, default=30, help="of processor time of each flow")
    parser.add_argument("--looks", type=int, default=20, help="at the validation rows in each run")
    parser.add_argument(
        "--levels",
        type=float,
        nargs="+",
        default=[-0.8, -0.81],
        help="nats per dimension that flows are to reach",
    )
    parser.add_argument("--rows", nargs="+", choices=list(flows()), default=list(flows()), metavar="ROW")
    parser.add_argument("--table", type=Path, help="file that the codes are kept in between runs")
    parser.add_argument(
        "--why", action="store_true", help="half-splits and random masks against known entropy"
    )
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.why:
        why(asked.steps)
        return
    study(
        code_rows(asked.model, asked.layer, asked.table),
        asked.rows,
        steps=asked.steps,
        seconds=asked.seconds,
        looks=asked.looks,
        levels=asked.levels,
    )


if __name__ == "__main__":
    main()
