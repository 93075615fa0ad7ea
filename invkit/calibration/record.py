"""How well a flow was calibrated when its training ended: curves for plots, figures, and when a misfit matters."""

__all__ = ["CalibrationRecord"]

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from invkit.statistics.intervals import Interval, number

PREFIX = "calibration."
TESTS = {"sbc": "SBC", "tarp": "TARP", "c2st": "C2ST", "c2st_given_z": "C2ST given z"}
# With many patches a test finds misfits that nobody needs to mind. Below these, they are called small.
SMALL_DISTANCE = 0.1  # of a distribution function of ranks from the uniform one
SMALL_AREA = 0.05  # between expected coverage and credibility
SMALL_ACCURACY = 0.6  # of a classifier; 0.5 is chance
SMALL_REACH = 0.05  # of the distance of truths from the flow's centre, from 1
HALVES, SINGLES, COUNTS = ("difference", "low", "high"), ("position", "coverage"), ("kind", "histogram")

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CalibrationRecord:
    """What the tests of calibration said of a flow, as its file keeps it.

    Args:
        summary: the verdicts and figures of all tests, JSON values.
        position: where the distribution functions of ranks are compared, `(K,)`, fractions of the ranks.
        difference: empirical minus uniform distribution function, `(K, k)`, for k quantities.
        low: lower edge of the band that all quantities respect together, `(K, k)`.
        high: its upper edge.
        departs: which quantities leave it somewhere, `(k,)`.
        kind: of each quantity, `(k,)`: 0 a number of the code, 1 a projection, 2 the norm of v.
        histogram: how many ranks of each kind fall into equal bins, `(3, bins)`.
        coverage: expected coverage of random regions minus credibility, with its band: position, difference, low and
            high, `(4, L)`.
    """

    summary: Mapping[str, Any]
    position: Array
    difference: Array
    low: Array
    high: Array
    departs: NDArray[np.bool_]
    kind: NDArray[np.int64]
    histogram: NDArray[np.int64]
    coverage: Array

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
        parts = {name: tensors[f"{PREFIX}{name}"].double().numpy() for name in (*HALVES, *SINGLES)}
        counts = {name: tensors[f"{PREFIX}{name}"].long().numpy() for name in COUNTS}
        return cls(summary, **parts, **counts, departs=tensors[f"{PREFIX}departs"].bool().numpy())

    def tensors(self) -> dict[str, Tensor]:
        """Return the curves under the names of the file, those of many quantities in half precision."""
        kinds = {
            **dict.fromkeys(HALVES, torch.float16),
            **dict.fromkeys(SINGLES, torch.float32),
            "departs": torch.uint8,
            "kind": torch.uint8,
            "histogram": torch.int32,
        }
        return {f"{PREFIX}{name}": torch.tensor(getattr(self, name)).to(kind) for name, kind in kinds.items()}

    @property
    def holds(self) -> bool:
        """Whether all tests hold."""
        return bool(self.summary["holds"])

    @property
    def distance(self) -> float:
        """The largest distance of a distribution function of ranks from the uniform one, over quantities and places."""
        return float(np.abs(self.difference).max())

    @property
    def reach(self) -> Interval:
        """How far truths lie from the flow's centre, in units of its draws; above 1 where samples are too narrow."""
        return Interval.of(self.summary["reach"])

    @property
    def matters(self) -> bool:
        """Whether a test fails by more than what counts as small."""
        tests = self.summary
        return not self.holds and (
            (not tests["sbc"]["holds"] and self.distance > SMALL_DISTANCE)
            or (not tests["tarp"]["holds"] and abs(Interval.of(tests["tarp"]["area"]).value) > SMALL_AREA)
            or any(
                not tests[name]["holds"] and Interval.of(tests[name]["accuracy"]).value > SMALL_ACCURACY
                for name in ("c2st", "c2st_given_z")
            )
        )

    def figures(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        tests = self.summary
        return {
            "holds": self.holds,
            "matters": self.matters,
            "failing": list(tests["failing"]),
            "reach": tests["reach"],
            "sbc": {
                "holds": tests["sbc"]["holds"],
                "distance": self.distance,
                "share_outside": tests["sbc"]["share_outside"],
            },
            **{name: tests[name] for name in ("tarp", "c2st", "c2st_given_z")},
            "patches": tests["patches"],
            "patients": tests["patients"],
            "level": tests["level"],
        }

    def sentence(self, layer: str) -> str:
        """Say in words how well the flow is calibrated.

        Args:
            layer: for people, e.g. `"layer 3 of yang2018"`.
        """
        tests = self.summary
        on = f"on {tests['patches']:,} held-out patches of {tests['patients']} patients"
        if self.holds:
            return f"The flow for {layer} is calibrated as far as the tests can tell, {on}."
        failing = ", ".join(TESTS[name] for name in tests["failing"])
        accuracy = max(Interval.of(tests[name]["accuracy"]).value for name in ("c2st", "c2st_given_z"))
        figures = (
            f"ranks deviate from uniform by up to {number(self.distance)}, a classifier is right in {100 * accuracy:.0f} % of all "
            f"cases, and truths lie {self.reach.text()} times as far from the flow's centre as its own samples"
        )
        if not self.matters:
            return f"The flow for {layer} is slightly miscalibrated {on} ({failing}): {figures}."
        reach = self.reach
        side = (
            ": raw samples are too narrow"
            if reach.low > 1 and reach.value > 1 + SMALL_REACH
            else ": raw samples are too wide"
            if reach.high < 1 and reach.value < 1 - SMALL_REACH
            else ""
        )
        return (
            f"The flow for {layer} is not calibrated ({failing} fail {on}): {figures}{side}. The spread and "
            "the likelihoods of its samples describe this flow only; certified samples do not rest on it."
        )
