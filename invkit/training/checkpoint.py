"""The checkpoints of a run folder: atomic, hashed, the last two kept, damaged ones passed over."""

__all__ = ["CheckpointWarning", "Checkpoints"]

import contextlib
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from invkit import artifacts
from invkit.errors import ArtifactError, ResourceError

KIND = "checkpoint"
NAME = re.compile(r"step-(\d{9,})\.safetensors")
SIDECAR = re.compile(r"step-(\d{9,})\.json")


class CheckpointWarning(UserWarning):
    """A checkpoint could not be used and an earlier one was taken."""


class Checkpoints:
    """Checkpoints of one training in `folder`, named by their step.

    A checkpoint is a file and its sidecar, the sidecar written last, so a file without one is a write that
    was cut short. A scheduled checkpoint is one whose step does not depend on when the process was
    interrupted; only to those may a diverged training return, else an interruption would change its outcome.

    Args:
        folder: where the files are; made by the first `save`.
        keep: how many of the newest stay, besides the newest scheduled one.
    """

    def __init__(self, folder: Path, *, keep: int = 2):
        self.folder = folder
        self.keep = keep

    def path(self, step: int) -> Path:
        """Return the file of the checkpoint at `step`."""
        return self.folder / f"step-{step:09d}.safetensors"

    def steps(self) -> list[int]:
        """Return the steps of all checkpoints that were written to their end, in rising order."""
        if not self.folder.is_dir():
            return []
        found = [SIDECAR.fullmatch(path.name) for path in self.folder.iterdir()]
        return sorted(int(match[1]) for match in found if match)

    def save(self, step: int, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Write the checkpoint of `step`, then drop those that are not needed any more.

        Args:
            step: steps done.
            tensors: the state; names may share memory.
            meta: JSON values; `scheduled` says whether a diverged training may return here.

        Raises:
            ResourceError: it cannot be written; the checkpoints that were there still are.
        """
        path = self.path(step)
        try:
            # The sidecar of an older file of this name would call the new bytes damaged.
            self._remove(path.with_suffix(".json"))
            artifacts.save(path, _unshared(tensors), kind=KIND, meta={**meta, "step": step})
        except ResourceError:
            if not path.with_suffix(".json").exists():
                self._remove(path)
            raise
        self._prune()

    def read(self, step: int, sha256: str | None = None) -> artifacts.Stored:
        """Read the checkpoint of `step`.

        Raises:
            ArtifactError: it is missing or damaged.
        """
        return artifacts.load(self.path(step), kind=KIND, sha256=sha256)

    def newest(self, *, scheduled: bool = False) -> artifacts.Stored | None:
        """Return the newest checkpoint that can be used, or `None`.

        Damaged ones are passed over with a `CheckpointWarning` and set aside under the suffix `.refused`.

        Args:
            scheduled: take scheduled checkpoints only.
        """
        for step in reversed(self.steps()):
            try:
                if scheduled and not artifacts.read_sidecar(self.path(step))["meta"].get("scheduled"):
                    continue
                return self.read(step)
            except ArtifactError as error:
                self._set_aside(step)
                warnings.warn(
                    CheckpointWarning(
                        f"checkpoint of step {step} is refused, going back to an earlier one: {error}"
                    ),
                    stacklevel=2,
                )
        return None

    def clean(self) -> None:
        """Remove what a killed process left: temporary files, checkpoints without a sidecar or too old.

        Raises:
            ResourceError: the folder cannot be written.
        """
        if not self.folder.is_dir():
            return
        for path in self.folder.iterdir():
            unfinished = NAME.fullmatch(path.name) and not path.with_suffix(".json").exists()
            if unfinished or path.name.startswith(".step-"):
                self._remove(path)
        self._prune()

    def _prune(self) -> None:
        steps = self.steps()
        kept = set(steps[-self.keep :])
        for step in reversed(steps):
            with contextlib.suppress(ArtifactError):
                if artifacts.read_sidecar(self.path(step))["meta"].get("scheduled"):
                    kept.add(step)
                    break
        for step in steps:
            if step not in kept:
                # Sidecar first: a kill in between leaves an unfinished checkpoint, not a damaged one.
                self._remove(self.path(step).with_suffix(".json"))
                self._remove(self.path(step))

    def _set_aside(self, step: int) -> None:
        for path in (self.path(step).with_suffix(".json"), self.path(step)):
            with contextlib.suppress(OSError):
                os.replace(path, path.with_name(path.name + ".refused"))

    def _remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise ResourceError(
                f"cannot remove {path}: {error.strerror or error}. Mend the permissions of {self.folder}"
            ) from error


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors, copies of those that share memory with an earlier one; safetensors refuses them."""
    seen: set[int] = set()
    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        result[name] = tensor.detach().clone() if place in seen else tensor
        seen.add(place)
    return result
