"""What a run of several steps has done so far: a manifest with the sha256 of every file, rewritten after each step."""

__all__ = ["CONFIG", "Journal", "differences", "require_same"]

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from invkit._version import __version__
from invkit.artifacts import fingerprint, sha256_file, write_atomic
from invkit.errors import ArtifactError, ConfigError, UsageError
from invkit.training.lock import LOCK_NAME

SCHEMA = "invkit.run.manifest/1"
CONFIG = "config.json"
MANIFEST = "manifest.json"


class Journal:
    """The manifest of one run folder. No time stands in it, so the same run has the same manifest.

    Args:
        folder: the run's; it exists.
        config: the resolved configuration, JSON values.
        steps: names of all steps in their order.

    Raises:
        ConfigError: the folder holds a run with another configuration.
        UsageError: the folder holds files that are no run.
        ArtifactError: its configuration or manifest is damaged.
    """

    def __init__(self, folder: Path, *, config: Mapping[str, Any], steps: Sequence[str]) -> None:
        self.folder = folder
        self.path = folder / MANIFEST
        self._config = dict(config)
        self._data: dict[str, str] = {}
        self._steps: dict[str, dict[str, Any]] = {name: {"status": "waiting"} for name in steps}
        require_same(folder, self._config, "run")
        self._read()

    def begin(self, data: Mapping[str, str]) -> None:
        """Write configuration and manifest, or go on with those that are there.

        Args:
            data: fingerprint and description of what is trained on.

        Raises:
            ConfigError: the run was begun on other data.
            ResourceError: the folder cannot be written.
        """
        if self._data and self._data != data:
            raise ConfigError(
                f"the run in {self.folder} was started on other data: {self._data['description']!r}, now "
                f"{data['description']!r}. Continue with the same data, or choose another folder with --out"
            )
        self._data = dict(data)
        if not (self.folder / CONFIG).exists():
            write_atomic(self.folder / CONFIG, json.dumps(self._config, indent=1, allow_nan=False).encode())
        self._write()

    def is_done(self, step: str, inputs: Mapping[str, Any]) -> bool:
        """Return whether a step was done with these inputs and every file it wrote is there, bit for bit.

        Args:
            step: its name.
            inputs: JSON values; what decides its outcome besides the configuration and the data.
        """
        record = self._steps[step]
        if record["status"] != "done" or record.get("inputs") != fingerprint(dict(inputs)):
            return False
        return all(self._is_intact(name, sha256) for name, sha256 in record["files"].items())

    def done(self, step: str, inputs: Mapping[str, Any], paths: Iterable[Path]) -> None:
        """Note that a step is done and which files it wrote."""
        files = {path.relative_to(self.folder).as_posix(): sha256_file(path) for path in sorted(paths)}
        self._steps[step] = {
            "status": "done",
            "inputs": fingerprint(dict(inputs)),
            "invkit": __version__,
            "torch": str(torch.__version__),
            "files": files,
        }
        self._write()

    def files(self, step: str) -> dict[str, str]:
        """Return the sha256 of every file that a step has written, by path within the folder."""
        found: dict[str, str] = self._steps[step].get("files", {})
        return dict(found)

    def _read(self) -> None:
        """Take over what earlier sessions have done."""
        if not self.path.exists():
            return
        try:
            manifest = json.loads(self.path.read_bytes())
            self._data = {name: str(manifest["data"][name]) for name in ("fingerprint", "description")}
            for name in self._steps:
                record = manifest["steps"][name]
                if record["status"] == "done":
                    self._steps[name] = {**record, "files": dict(record["files"])}
        except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
            raise ArtifactError(
                f"{self.path} is damaged ({type(error).__name__}). Delete it to redo all steps"
            ) from None

    def _is_intact(self, name: str, sha256: str) -> bool:
        path = self.folder / name
        return path.is_file() and sha256_file(path) == sha256

    def _write(self) -> None:
        finished = all(record["status"] == "done" for record in self._steps.values())
        manifest = {
            "schema": SCHEMA,
            "status": "finished" if finished else "unfinished",
            "config": sha256_file(self.folder / CONFIG),
            "data": self._data,
            "steps": self._steps,
        }
        write_atomic(self.path, json.dumps(manifest, indent=1, allow_nan=False).encode())


def require_same(folder: Path, config: Mapping[str, Any], what: str) -> bool:
    """Return whether a folder holds what was begun with this configuration; `False` where it is empty.

    Args:
        folder: it exists.
        config: JSON values.
        what: `"run"` or `"series"`, for messages.

    Raises:
        ConfigError: it was started with another configuration.
        UsageError: the folder holds files of something else.
        ArtifactError: the configuration in it is damaged.
    """
    path = folder / CONFIG
    if not path.exists():
        if any(item.name != LOCK_NAME for item in folder.iterdir()):
            raise UsageError(
                f"{folder} contains files, but no {what}. Choose a new or empty folder with --out"
            )
        return False
    try:
        then = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"cannot read {path}: {error}. Start the {what} in another folder") from None
    changed = differences(then if isinstance(then, dict) else {}, config)
    if changed:
        listed = "; ".join(
            f"{name} was {json.dumps(old)}, now it is {json.dumps(new)}"
            for name, (old, new) in changed.items()
        )
        raise ConfigError(
            f"the {what} in {folder} was started with another configuration: {listed}. "
            "Continue with the same one, or choose another folder with --out"
        )
    return True


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the fields in which two configurations differ, by dotted name, with both values."""
    old, new = dict(_flat(then)), dict(_flat(now))
    return {
        name: (old.get(name), new.get(name))
        for name in {**old, **new}
        if name not in old or name not in new or old[name] != new[name]
    }


def _flat(values: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, Mapping) and (values or not path):
        for key, value in values.items():
            yield from _flat(value, f"{path}.{key}" if path else key)
    else:
        yield path, values
