"""What a layer's file keeps of its held-out patches: calibration of the flow."""

__all__ = ["record_calibration", "record_of"]

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from invkit.calibration.flow import LayerCalibration, calibrate_flow
from invkit.calibration.record import CalibrationRecord
from invkit.errors import DataError, InputError
from invkit.flow.cinn import CINN
from invkit.flow.table import CodeTable

PLACES = 32  # of the distribution functions that are kept, about
BINS = 20
KINDS = ("code", "projection", "norm")


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
    record = record_of(found)
    return record.tensors(), dict(record.summary)


def record_of(found: LayerCalibration) -> CalibrationRecord:
    """Return the stored part of the results: about 32 points of each distribution function, and counts in 20 bins."""
    curves = found.sbc.uniformity
    step = max(1, round(len(curves.position) / PLACES))
    kind = np.array([_kind(name) for name in found.sbc.names])
    fractions = (found.ranks.ranks + 0.5) / (found.ranks.samples + 1)
    bins = np.minimum((fractions * BINS).astype(int), BINS - 1)
    tarp = found.tarp.curve
    edges = (tarp.difference, tarp.family_low, tarp.family_high)
    return CalibrationRecord(
        summary=_summary(found),
        position=curves.position[::step],
        difference=curves.difference[::step],
        low=curves.family_low[::step],
        high=curves.family_high[::step],
        departs=curves.departs,
        kind=kind,
        histogram=np.stack([np.bincount(bins[:, kind == one].ravel(), minlength=BINS) for one in range(3)]),
        coverage=np.stack([tarp.position, *(edge[:, 0] for edge in edges)]),
    )


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
