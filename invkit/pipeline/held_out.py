"""What a layer's file keeps of its held-out patches: calibration of the flow, errors of the regression, learning curves."""

__all__ = ["CalibrationRecord", "learning_curve", "record_calibration"]

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invkit.errors import DataError, InputError
from invkit.flow.cinn import CINN
from invkit.flow.table import CodeTable
from invkit.metrics.calibration import Uniformity
from invkit.pipeline.calibrate import LayerCalibration, calibrate_flow

PREFIX = "calibration."
PLACES = 32  # of the distribution functions that are kept, about
BINS = 20
KINDS = ("code", "projection", "norm")

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CalibrationRecord:
    """How well a flow was calibrated when its training ended, as its file keeps it.

    Args:
        summary: the verdicts and figures of all tests, JSON values.
        position: where the distribution functions of ranks are compared, `(K,)`, fractions of the ranks.
        difference: empirical minus uniform distribution function, `(K, k)`, for k quantities.
        low: lower edge of the band that all quantities respect together, `(K, k)`.
        high: its upper edge.
        departs: which quantities leave it somewhere, `(k,)`.
        kind: of each quantity, `(k,)`: 0 a number of the code, 1 a projection, 2 the norm of v.
        histogram: how many ranks of each kind fall into 20 equal bins, `(3, 20)`.
        coverage: expected coverage of random regions minus credibility, with its band: position, difference, low and
            high, `(4, L)`.
    """

    summary: dict[str, Any]
    position: Array
    difference: Array
    low: Array
    high: Array
    departs: NDArray[np.bool_]
    kind: NDArray[np.int64]
    histogram: NDArray[np.int64]
    coverage: Array

    @classmethod
    def of(cls, found: LayerCalibration) -> Self:
        """Return what is kept of the tests' result."""
        curves: Uniformity = found.sbc.uniformity
        step = max(1, round(len(curves.position) / PLACES))
        kind = np.array([_kind(name) for name in found.sbc.names])
        fractions = (found.ranks.ranks + 0.5) / (found.ranks.samples + 1)
        bins = np.minimum((fractions * BINS).astype(int), BINS - 1)
        histogram = np.stack([np.bincount(bins[:, kind == one].ravel(), minlength=BINS) for one in range(3)])
        tarp = found.tarp.curve
        edges = (tarp.difference, tarp.family_low, tarp.family_high)
        return cls(
            summary=_summary(found),
            position=curves.position[::step],
            difference=curves.difference[::step],
            low=curves.family_low[::step],
            high=curves.family_high[::step],
            departs=curves.departs,
            kind=kind,
            histogram=histogram,
            coverage=np.stack([tarp.position, *(edge[:, 0] for edge in edges)]),
        )

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Self | None:
        """Return the record in a layer's file; `None` where none was made.

        Args:
            tensors: the file's tensors that belong to neither network.
            meta: its meta.
        """
        summary = meta.get("calibration")
        if not isinstance(summary, dict) or f"{PREFIX}position" not in tensors:
            return None
        parts = {
            name: tensors[f"{PREFIX}{name}"].double().numpy()
            for name in ("position", "difference", "low", "high", "coverage")
        }
        whole = {name: tensors[f"{PREFIX}{name}"].long().numpy() for name in ("kind", "histogram")}
        return cls(summary, **parts, **whole, departs=tensors[f"{PREFIX}departs"].bool().numpy())

    def tensors(self) -> dict[str, Tensor]:
        """Return the curves under the names of the file, bands in half precision."""
        half = {name: torch.tensor(getattr(self, name)).half() for name in ("difference", "low", "high")}
        single = {name: torch.tensor(getattr(self, name)).float() for name in ("position", "coverage")}
        whole = {
            "departs": torch.tensor(self.departs).to(torch.uint8),
            "kind": torch.tensor(self.kind).to(torch.uint8),
            "histogram": torch.tensor(self.histogram).to(torch.int32),
        }
        return {f"{PREFIX}{name}": value.contiguous() for name, value in (half | single | whole).items()}


def record_calibration(
    cinn: CINN, table: CodeTable, patients: Sequence[Any], *, seed: int
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Test a flow on held-out codes and return tensors and meta for its file; no tensors, and why, where it cannot be tested.

    Args:
        cinn: the flow.
        table: held-out codes and conditions.
        patients: label of each row.
        seed: of everything random.
    """
    try:
        found = calibrate_flow(cinn, table, patients, seed=seed)
    except (DataError, InputError) as error:
        # A training is not lost for it.
        return {}, {"unmeasured": str(error)}
    record = CalibrationRecord.of(found)
    return record.tensors(), record.summary


def learning_curve(history: Path, name: str) -> list[tuple[int, float]]:
    """Return a held-out figure after so many steps, from the `metrics.jsonl` of a training."""
    curve: dict[int, float] = {}
    for line in history.read_text().splitlines():
        record = json.loads(line)
        value = record.get("evaluation", {}).get(name)
        if value is not None:
            curve[int(record["step"])] = float(value)
    return sorted(curve.items())


def _summary(found: LayerCalibration) -> dict[str, Any]:
    """Return the tests' JSON values, with numbers of failing quantities in place of hundreds of names."""
    summary = found.to_json()
    failing = [_kind(name) for name in found.sbc.failing]
    kinds = [_kind(name) for name in found.sbc.names]
    summary["sbc"]["failing"] = {
        name: [failing.count(number), kinds.count(number)] for number, name in enumerate(KINDS)
    }
    return summary


def _kind(name: str) -> int:
    return 2 if name.startswith("norm") else 1 if name.startswith("projection") else 0
