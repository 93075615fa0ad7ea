"""What a folder of items was begun with: whoever goes on with it must want the same, and takes over the rest."""

__all__ = ["CONFIG", "Plan", "begin"]

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from invkit.artifacts import write_atomic
from invkit.errors import ArtifactError, ConfigError, ResourceError, UsageError
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
    """

    created: str
    threads: int


def begin(
    folder: Path, config: Mapping[str, Any], what: str, *, data: Mapping[str, Any] | None = None
) -> Plan:
    """Write what a folder is begun with, or see that it is what is there.

    Args:
        folder: new, empty, or begun before.
        config: JSON values that decide what comes out; they stand in `config.json`.
        what: is begun, such as `"run"`, for messages.
        data: what else must not change, JSON values.

    Raises:
        ConfigError: it was begun with something else; the message says with what.
        UsageError: the folder holds files of something else.
        ArtifactError: what it was begun with cannot be read.
        ResourceError: it cannot be written.
    """
    path = folder / ITEMS / PLAN
    try:
        known = folder.is_dir() and any(folder.iterdir())
        if known and not (folder / ITEMS).is_dir():
            raise UsageError(
                f"{folder} contains files, but no {what}. Choose a new or empty folder with --out"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if path.exists():
                found = _read(path, what)
                _require(found["data"], data or {}, folder, what)
                _require(_read(folder / CONFIG, what), config, folder, what)
                return Plan(found["created"], found["threads"])
            plan = Plan(datetime.now(UTC).isoformat(timespec="seconds"), _threads())
            write_atomic(folder / CONFIG, json.dumps(dict(config), indent=1, allow_nan=False).encode())
            stated = {"created": plan.created, "threads": plan.threads, "data": dict(data or {})}
            write_atomic(path, json.dumps(stated, indent=1, allow_nan=False).encode())
            return plan
    except OSError as error:
        if isinstance(error, ResourceError):
            raise
        raise ResourceError(
            f"cannot write in {folder}: {error.strerror or error}. Choose another folder with --out"
        ) from error


def _threads() -> int:
    alone = launched() is None or "OMP_NUM_THREADS" in os.environ
    return torch.get_num_threads() if alone else 1


def _read(path: Path, what: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"cannot read {path}: {error}. Begin the {what} in another folder") from None
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
            f"the {what} in {folder} was begun with something else: {'; '.join(changed)}. "
            "Go on with the same, or choose another folder with --out"
        )


def _flat(values: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, Mapping) and (values or not path):
        for key, value in values.items():
            yield from _flat(value, f"{path}.{key}" if path else key)
    else:
        yield path, values
