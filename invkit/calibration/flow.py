"""Is the flow of a layer calibrated? Ranks, coverage and a classifier on held-out patches."""

__all__ = ["LayerCalibration", "calibrate_flow"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invkit.calibration.c2st import C2stCheck, check_c2st, run_c2st
from invkit.calibration.sbc import Ranks, SbcCheck, check_sbc, random_directions, run_sbc
from invkit.calibration.tarp import Coverage, TarpCheck, check_tarp, run_tarp
from invkit.errors import DataError
from invkit.flow.cinn import CINN
from invkit.flow.table import CodeTable
from invkit.statistics.intervals import Interval, bootstrap
from invkit.training.precision import in_float64
from invkit.training.seeds import derive_seed, generator

TESTS = ("sbc", "tarp", "c2st", "c2st_given_z")
FOLDS = 5
HIDDEN = 16  # of the classifier that sees z
OF_CONDITION = 16  # principal components of the condition that it sees


@dataclass(frozen=True)
class LayerCalibration:
    """What the tests say of one flow.

    Args:
        sbc: ranks of the code's numbers ("code i"), of random projections of it ("projection i") and of |v| ("norm of v").
        ranks: the ranks themselves.
        tarp: coverage of the whole code.
        coverage: the counts behind it, for the curve.
        c2st: whether v = t(z_bar | z) of held-out codes can be told from N(0, 1).
        c2st_given_z: the same for a classifier that sees the condition too.
        reach: root mean square of v = t(z_bar | z) over truths and dimensions: how far truths lie from the flow's centre in
            units of its draws; 1 where calibrated, above 1 where the samples are too narrow.
        patches: held-out patches.
        patients: of how many patients.
        level: of all tests together; bands and intervals of each are at 1 - (1 - level) / 4.
    """

    sbc: SbcCheck
    ranks: Ranks
    tarp: TarpCheck
    coverage: Coverage
    c2st: C2stCheck
    c2st_given_z: C2stCheck
    reach: Interval
    patches: int
    patients: int
    level: float = 0.95

    @property
    def holds(self) -> bool:
        """Whether all tests hold, each at a level such that a calibrated flow passes all with probability `level`."""
        return not self.failing

    @property
    def failing(self) -> tuple[str, ...]:
        """The tests that do not hold, by the names of their fields."""
        return tuple(name for name in TESTS if not getattr(self, name).holds)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        checks = {name: getattr(self, name).to_json() for name in TESTS}
        return {
            **checks,
            "reach": self.reach.to_json(),
            "holds": self.holds,
            "failing": list(self.failing),
            "level": self.level,
            "patches": self.patches,
            "patients": self.patients,
        }


@torch.no_grad()
def calibrate_flow(
    cinn: CINN,
    table: CodeTable,
    patients: Sequence[Any],
    *,
    samples: int = 99,
    directions: int = 32,
    level: float = 0.95,
    seed: int = 0,
) -> LayerCalibration:
    """Test a flow on held-out codes: z_bar ~ q(z_bar | x) is the truth, t^-1(v | z) with v ~ N(0, 1) are the samples.

    Truths are posterior samples, because the flow was trained on such. Projections are of codes in units of their standard
    deviation over patches. Any function of code and z has uniform ranks if the flow is right, |t(z_bar | z)| too, whose rank
    says whether truths lie as far from the flow's centre as its draws. Patients are the independent units everywhere.

    Args:
        cinn: the flow.
        table: held-out codes and conditions.
        patients: label of each row.
        samples: N draws for each row.
        directions: random projections to rank.
        level: probability that a calibrated flow passes all tests.
        seed: of everything random.

    Raises:
        DataError: fewer than two patients, or a label too many or too few.
    """
    labels = list(patients)
    count = len(set(labels))
    if count < 2 or len(labels) != len(table):
        raise DataError(
            f"calibration needs codes of at least 2 held-out patients, one label each; got {len(table)} codes, "
            f"{len(labels)} labels, {count} patients"
        )
    cinn.eval()
    each = 1 - (1 - level) / len(TESTS)
    h = cinn.embed(table.condition)
    truth = table.sample(generator(seed, "truth"))
    drawn = torch.randn(samples, *truth.shape, generator=generator(seed, "draws")).to(truth)
    codes = torch.stack([cinn.inverse(v, h) for v in drawn])
    v = cinn(truth, h)[0]
    deviation = truth.std(0).clamp_min(1e-12)
    ways = random_directions(table.d, directions, seed=derive_seed(seed, "directions"))
    ranks = run_sbc(truth, codes, seed=derive_seed(seed, "ties"))
    if directions:
        ranks = ranks.joined(run_sbc(truth / deviation, codes / deviation, ways, name="projection"))
    ranks = ranks.joined(run_sbc(_norm(v), _norm(drawn), name="norm of v"))
    coverage = run_tarp(truth, codes, seed=derive_seed(seed, "points"))
    fair = torch.randn(truth.shape, generator=generator(seed, "fair")).to(truth)
    known = _components(table.condition, OF_CONDITION)
    folds = min(FOLDS, count)
    marginal, joint = (
        check_c2st(
            run_c2st(first, second, labels, hidden=hidden, folds=folds, seed=derive_seed(seed, "c2st")),
            level=each,
        )
        for first, second, hidden in (
            (v, fair, 0),
            (torch.cat([v, known], dim=1), torch.cat([fair, known], dim=1), HIDDEN),
        )
    )
    square = bootstrap(
        v.cpu().double().square().mean(1), groups=labels, seed=derive_seed(seed, "reach"), level=each
    )
    return LayerCalibration(
        sbc=check_sbc(ranks, labels, level=each, seed=derive_seed(seed, "signs")),
        ranks=ranks,
        tarp=check_tarp(coverage, labels, level=each, seed=derive_seed(seed, "bootstrap")),
        coverage=coverage,
        c2st=marginal,
        c2st_given_z=joint,
        reach=square.root(),
        patches=len(table),
        patients=count,
        level=level,
    )


def _norm(v: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return |v| as a quantity, `(..., 1)`."""
    length: Tensor = v.cpu().double().norm(dim=-1, keepdim=True)
    return length.numpy()


def _components(condition: Tensor, count: int) -> Tensor:
    """Return the leading principal components of the rows, `(n, count)` or fewer."""
    rows = in_float64(condition.flatten(1))
    u, s, _ = torch.linalg.svd(rows - rows.mean(0), full_matrices=False)
    kept = s > 1e-9 * s[:1].clamp_min(1e-300)
    leading: Tensor = (u * s)[:, kept][:, :count].to(condition)
    return leading
