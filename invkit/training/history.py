"""The log of a training: one JSON object a line, cut back on resume to tell one undisturbed story."""

__all__ = ["History", "learning_curve"]

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from invkit.errors import ResourceError


class History:
    """Append-only `metrics.jsonl` of a run folder.

    A checkpoint stores the size of the file at its step; `cut` goes back to it. So the log of a resumed run
    equals that of an undisturbed one apart from the times in it.

    Args:
        path: the file; it is made by the first `append`.
    """

    def __init__(self, path: Path):
        self.path = path

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one line; a number that is not finite becomes `null`.

        Raises:
            ResourceError: the file cannot be written.
        """
        line = json.dumps(_finite(record), separators=(",", ":"), allow_nan=False) + "\n"
        try:
            with self.path.open("ab") as stream:
                stream.write(line.encode())
        except OSError as error:
            raise self._unwritable(error) from error

    def size(self) -> int:
        """Return the number of bytes, all of them safe on disk.

        Raises:
            ResourceError: the file cannot be written.
        """
        try:
            with self.path.open("ab") as stream:
                os.fsync(stream.fileno())
                return stream.tell()
        except OSError as error:
            raise self._unwritable(error) from error

    def cut(self, size: int) -> None:
        """Drop everything after `size` bytes; a file that is shorter already stays as it is.

        Raises:
            ResourceError: the file cannot be written.
        """
        try:
            with self.path.open("ab") as stream:
                if stream.tell() > size:
                    stream.truncate(size)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> ResourceError:
        return ResourceError(
            f"cannot write {self.path}: {error.strerror or error}. "
            "Free some space; the last checkpoint is intact"
        )


def learning_curve(history: Path, name: str) -> list[tuple[int, float]]:
    """Return a held-out figure after so many steps, from the `metrics.jsonl` of a training."""
    curve: dict[int, float] = {}
    for line in history.read_text().splitlines():
        record = json.loads(line)
        value = record.get("evaluation", {}).get(name)
        if value is not None:
            curve[int(record["step"])] = float(value)
    return sorted(curve.items())


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
