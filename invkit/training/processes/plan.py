"""What a folder of items was begun with: whoever goes on with it must want the same, and takes over the rest."""

__all__ = ["CONFIG", "Plan", "begin", "require_place", "require_writable"]

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from invkit.artifacts import write_atomic
from invkit.errors import ArtifactError, ConfigError, ResourceError, UsageError
from invkit.training.processes.held import taken
from invkit.training.processes.items import ITEMS
from invkit.training.processes.launch import launched

CONFIG = "config.json"
PLAN = "plan.json"


@dataclass(frozen=True)
class Plan:
    """What the first process has decided for all that work in a folder.

    Args:
        created: when it began, for people.
        threads: of torch for each item: as many as that process had; one where several were started together and nobody said how
            many.
        command: a command line that does it again.
    """

    created: str
    threads: int
    command: str = ""


def require_place(folder: Path, what: str) -> None:
    """Find out, before anything is done, whether a folder can be begun or resumed; nothing is made.

    Args:
        folder: need not exist.
        what: is to go there, such as `"run"`, for messages.

    Raises:
        UsageError: the folder holds files of something else.
        ResourceError: it cannot be written.
    """
    require_writable(folder)
    if not (folder / ITEMS).is_dir() and folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder} contains files, but no {what}. Choose a new or empty folder with --out")


def require_writable(folder: Path) -> None:
    """Find out whether something can be written into a folder, which need not exist; nothing is made.

    Raises:
        ResourceError: it cannot.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ResourceError(f"cannot write to {there}. Choose another folder with --out")


def begin(
    folder: Path,
    config: Mapping[str, Any],
    what: str,
    *,
    data: Mapping[str, Any] | None = None,
    command: str = "",
) -> Plan:
    """Write what a folder is begun with, or see that it is what is there.

    Args:
        folder: new, empty, or begun before.
        config: JSON values that decide what comes out; they stand in `config.json`.
        what: is begun, such as `"run"`, for messages.
        data: what else must not change, JSON values.
        command: a command line that does it; of several, the first one's counts.

    Raises:
        ConfigError: it was started with something else; the message says with what.
        UsageError: the folder holds files of something else.
        ArtifactError: what it was begun with cannot be read.
        ResourceError: it cannot be written.
    """
    path = folder / ITEMS / PLAN
    require_place(folder, what)
    while (lock := taken(path.with_suffix(".lock"))) is None:
        time.sleep(0.05)
    try:
        if path.exists():
            found = _read(path, what)
            _require(found["data"], data or {}, folder, what)
            _require(_read(folder / CONFIG, what), config, folder, what)
            return Plan(found["created"], found["threads"], found["command"])
        plan = Plan(datetime.now(UTC).isoformat(timespec="seconds"), _threads(), command)
        write_atomic(folder / CONFIG, json.dumps(dict(config), indent=1, allow_nan=False).encode())
        stated = {**asdict(plan), "data": dict(data or {})}
        write_atomic(path, json.dumps(stated, indent=1, allow_nan=False).encode())
        return plan
    finally:
        lock.release()


def _threads() -> int:
    alone = launched() is None or "OMP_NUM_THREADS" in os.environ
    return torch.get_num_threads() if alone else 1


def _read(path: Path, what: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"cannot read {path}: {error}. Start the {what} in another folder") from None
    return found if isinstance(found, dict) else {}


def _require(then: Mapping[str, Any], now: Mapping[str, Any], folder: Path, what: str) -> None:
    """Refuse other values than there were."""
    old, new = dict(_flat(then)), dict(_flat(now))
    changed = [
        f"{name} was {json.dumps(old.get(name))}, now it is {json.dumps(new.get(name))}"
        for name in {**old, **new}
        if name not in old or name not in new or old[name] != new[name]
    ]
    if changed:
        raise ConfigError(
            f"the {what} in {folder} was started with something else: {'; '.join(changed)}. "
            "Continue with the same, or choose another folder with --out"
        )


def _flat(values: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, Mapping) and (values or not path):
        for key, value in values.items():
            yield from _flat(value, f"{path}.{key}" if path else key)
    else:
        yield path, values
