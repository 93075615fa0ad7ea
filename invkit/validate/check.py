"""`invkit.validate.check`: every claim that has a truth in closed form, measured on this machine."""

from __future__ import annotations

__all__ = ["CHECKS", "Check", "Validation", "validate"]

import difflib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from invkit.denoisers.oracles.oracle import CUTOFF
from invkit.errors import UnknownNameError
from invkit.plugins.load import load
from invkit.split.split import Split
from invkit.training.progress import Progress, ProgressEvent
from invkit.validate.exact import check_injective, check_quantiser
from invkit.validate.flow import check_flow
from invkit.validate.gaussian import kept_by_blocks, kept_by_lowpass
from invkit.validate.linear import check_linear
from invkit.validate.maps import check_band, check_region
from invkit.validate.mixture import check_mixture
from invkit.validate.planted import check_disc, check_sign
from invkit.validate.posterior import check_contrast, check_posterior
from invkit.validate.rows import Row, Seeds
from invkit.validate.threshold import check_threshold
from invkit.validate.training import Case

SIZE = Case().size


@dataclass(frozen=True)
class Check:
    """Rows that are measured together.

    Args:
        rows: their ids.
        run: measures them.
    """

    rows: tuple[str, ...]
    run: Callable[[Seeds, Progress | None], list[Row]]


@dataclass(frozen=True)
class Validation:
    """What was measured.

    Args:
        rows: one for each figure.
        seed: of every random number.
        seconds: time that each check took, by the beginning of its rows' ids.
    """

    rows: tuple[Row, ...]
    seed: int
    seconds: Mapping[str, float]

    @property
    def failed(self) -> tuple[str, ...]:
        """Ids of the rows that do not hold."""
        return tuple(row.id for row in self.rows if not row.holds)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "rows": [row.to_json() for row in self.rows],
            "holds": not self.failed,
            "seed": self.seed,
            "seconds": {name: round(seconds, 1) for name, seconds in self.seconds.items()},
        }


def _of_oracle(check: Callable[[Split, Seeds], list[Row]]) -> Callable[[Seeds, Progress | None], list[Row]]:
    return lambda seeds, progress: check(_split(seeds.name), seeds)


def _split(name: str) -> Split:
    """Cut the oracle of this name at the layer it declares."""
    denoiser = load(f"oracle-{name}")
    return Split(denoiser, denoiser.spec.layers[0].key)


def _lowpass(seeds: Seeds, progress: Progress | None) -> list[Row]:
    return check_linear(_split(seeds.name), kept_by_lowpass(SIZE, CUTOFF), seeds, progress=progress)


def _projection(seeds: Seeds, progress: Progress | None) -> list[Row]:
    return check_linear(_split(seeds.name), kept_by_blocks(SIZE, 2), seeds, progress=progress)


def _mixture(seeds: Seeds, progress: Progress | None) -> list[Row]:
    return check_mixture(_split("projection"), kept_by_blocks(SIZE, 2), seeds, progress=progress)


def _of_linear(name: str) -> tuple[str, ...]:
    return tuple(f"{name}.{row}" for row in ("nll", "angles", "covariance", "sbc", "tarp"))


CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        "flow": Check(
            ("flow.inverse", "flow.inverse-double", "flow.logdet"), lambda seeds, _: check_flow(seeds)
        ),
        "linear-lowpass": Check(_of_linear("linear-lowpass"), _lowpass),
        "projection": Check(_of_linear("projection"), _projection),
        "mixture": Check(("mixture.nll",), _mixture),
        "soft-threshold": Check(
            ("soft-threshold.killed", "soft-threshold.kept", "soft-threshold.found"),
            _of_oracle(check_threshold),
        ),
        "quantiser": Check(("quantiser",), _of_oracle(check_quantiser)),
        "injective": Check(("injective",), _of_oracle(check_injective)),
        "planted-band": Check(("planted-band", "planted-band.found"), _of_oracle(check_band)),
        "planted-region": Check(("planted-region", "planted-region.found"), _of_oracle(check_region)),
        "planted-disc": Check(
            ("planted-disc", "planted-disc.seen", "planted-disc.contrast", "planted-disc.found"),
            _of_oracle(check_disc),
        ),
        "planted-sign": Check(("planted-sign", "planted-sign.found"), _of_oracle(check_sign)),
        "posterior": Check(
            ("posterior.spread", "posterior.prior", "posterior.certified", "posterior.detectability"),
            lambda seeds, _: check_posterior(_split("projection"), seeds),
        ),
        "contrast": Check(("contrast",), lambda seeds, _: check_contrast(seeds)),
    }
)


def validate(
    only: Sequence[str] = (),
    *,
    seed: int = 0,
    progress: Progress | None = None,
    checks: Mapping[str, Check] = CHECKS,
) -> Validation:
    """Measure what has a truth in closed form.

    Args:
        only: ids of rows, or what the ids of several rows begin with, up to a dot; all of them by default. Rows that are
            measured together with a wanted one cost nothing, but are left out of the result.
        seed: decides every random number.
        progress: receives which check runs and the progress of its training.
        checks: what can be measured, by the beginning of the ids.

    Raises:
        UnknownNameError: `only` names what does not exist; the message lists what does.
    """
    wanted = _wanted(only, checks)
    chosen = {name: check for name, check in checks.items() if wanted & set(check.rows)}
    rows: list[Row] = []
    seconds: dict[str, float] = {}
    begun = time.monotonic()
    for done, (name, check) in enumerate(chosen.items()):
        if progress is not None:
            progress(ProgressEvent(f"validate {name}", done, len(chosen), time.monotonic() - begun, None, {}))
        before = time.monotonic()
        rows += [row for row in check.run(Seeds(seed, name), progress) if row.id in wanted]
        seconds[name] = time.monotonic() - before
    return Validation(tuple(rows), seed, MappingProxyType(seconds))


def _wanted(only: Sequence[str], checks: Mapping[str, Check]) -> set[str]:
    ids = [row for check in checks.values() for row in check.rows]
    if not only:
        return set(ids)
    found: set[str] = set()
    for name in only:
        rows = {row for row in ids if row == name or row.startswith(f"{name}.")}
        if not rows:
            near = difflib.get_close_matches(name, [*ids, *checks], n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UnknownNameError(f"there is no check {name!r}; {hint}There are: {', '.join(ids)}")
        found |= rows
    return found
