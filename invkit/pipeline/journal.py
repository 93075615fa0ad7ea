"""What a run of several steps has done so far: a manifest with the sha256 of every file, rewritten after each step."""

__all__ = ["Journal"]

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from invkit._version import __version__
from invkit.artifacts import fingerprint, sha256_file, write_atomic
from invkit.errors import ArtifactError, ConfigError, UsageError
from invkit.pipeline.run_file import differences
from invkit.training.lock import LOCK_NAME

SCHEMA = "invkit.run.manifest/1"
CONFIG = "config.json"
MANIFEST = "manifest.json"


class Journal:
    """The manifest of one run folder. No time stands in it, so the same run has the same manifest.

    Args:
        folder: the run's; it exists.
        config: the resolved configuration, JSON values.
        data: fingerprint and description of what is trained on.
        steps: names of all steps in their order.

    Raises:
        ConfigError: the folder holds a run with another configuration or other data.
        UsageError: the folder holds files that are no run.
        ArtifactError: its manifest is damaged.
        ResourceError: it cannot be written.
    """

    def __init__(
        self, folder: Path, *, config: Mapping[str, Any], data: Mapping[str, str], steps: Sequence[str]
    ) -> None:
        self.folder = folder
        self.path = folder / MANIFEST
        self._data = dict(data)
        self._steps: dict[str, dict[str, Any]] = {name: {"status": "waiting"} for name in steps}
        self._begin(config)
        self._steps |= {name: record for name, record in self._earlier().items() if name in self._steps}
        self._write()

    def is_done(self, step: str, inputs: Mapping[str, Any]) -> bool:
        """Return whether a step was done with these inputs and every file it wrote is there, bit for bit.

        Args:
            step: its name.
            inputs: JSON values; what decides its outcome besides the configuration and the data.
        """
        record = self._steps[step]
        if record["status"] != "done" or record["inputs"] != fingerprint(dict(inputs)):
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

    def _begin(self, config: Mapping[str, Any]) -> None:
        path = self.folder / CONFIG
        if path.exists():
            self._require_same(path, config)
            return
        if any(item.name != LOCK_NAME for item in self.folder.iterdir()):
            raise UsageError(
                f"{self.folder} holds files, but no run. Choose a new or empty folder with --out"
            )
        write_atomic(path, json.dumps(config, indent=1, allow_nan=False).encode())

    def _require_same(self, path: Path, config: Mapping[str, Any]) -> None:
        try:
            then = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise ArtifactError(f"cannot read {path}: {error}. Begin the run in another folder") from None
        changed = differences(then if isinstance(then, dict) else {}, config)
        if changed:
            listed = "; ".join(
                f"{name} was {json.dumps(old)}, now it is {json.dumps(new)}"
                for name, (old, new) in changed.items()
            )
            raise ConfigError(
                f"the run in {self.folder} was begun with another configuration: {listed}. "
                "Go on with the same one, or choose another folder with --out"
            )

    def _earlier(self) -> dict[str, dict[str, Any]]:
        """Return the records of earlier sessions."""
        if not self.path.exists():
            return {}
        try:
            manifest = json.loads(self.path.read_bytes())
            data, steps = manifest["data"], dict(manifest["steps"])
        except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
            raise ArtifactError(
                f"{self.path} is damaged ({type(error).__name__}). Delete it: what is intact is found again"
            ) from None
        if data != self._data:
            raise ConfigError(
                f"the run in {self.folder} was begun on other data: {data.get('description')!r}, now "
                f"{self._data['description']!r}. Go on with the same data, or choose another folder with --out"
            )
        return steps

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
