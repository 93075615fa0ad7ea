"""Run folders: one analysis on disk with its report, samples and manifest; never overwritten."""

__all__ = ["RunPaths", "new_run_folder", "require_room", "require_writable", "save_run"]

import json
import os
import platform
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from invkit.analysis.outcome import Outcome
from invkit.analysis.presentation import report_data
from invkit.artifacts import sha256_file, write_atomic
from invkit.errors import ResourceError, UsageError
from invkit.plugins.manager import PluginHost
from invkit.report.table import write_csv
from invkit.report.write import write_report

SCHEMA = "invkit.manifest/1"
RUNS_ON = ("invkit", "torch", "numpy", "pydicom", "safetensors", "scikit-image", "matplotlib")


@dataclass(frozen=True)
class RunPaths:
    """Where a run lies and its report."""

    folder: Path
    report: Path


def new_run_folder(root: Path, model: str, layers: str) -> Path:
    """Make and return a new folder `<time>-<model>-<layer>-<random>` below `root`.

    Raises:
        ResourceError: it cannot be made.
    """
    name = "".join(c if c.isalnum() or c in "._-" else "_" for c in f"{model}-{layers}")[:60]
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder = root / f"{stamp}-{name}-{secrets.token_hex(3)}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise ResourceError(
            f"cannot make {folder}: {error.strerror or error}. Choose another folder with --out"
        ) from None
    return folder


def require_room(folder: Path) -> None:
    """Find out whether a run can go into a folder, which need not exist; nothing is made.

    Raises:
        UsageError: the folder holds files, or is a file.
        ResourceError: it cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty, and a run is never overwritten. Choose another folder")
    require_writable(folder)


def require_writable(folder: Path) -> None:
    """Find out whether something can be written into a folder, which need not exist; nothing is made.

    Raises:
        ResourceError: it cannot.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ResourceError(f"cannot write to {there}. Choose another folder with --out")


def save_run(
    result: Outcome,
    folder: Path,
    *,
    command: str = "",
    host: PluginHost | None = None,
    beside: Mapping[str, Any] | None = None,
) -> RunPaths:
    """Write report, figures, samples and manifest to a folder; the manifest, which holds the hashes, comes last.

    The report shows the first image; further ones get a report each in `image-2`, `image-3`, ...

    Args:
        result: the analysis.
        folder: new or empty.
        command: a command line that makes the result again.
        host: the plugins, which can add sections to the report.
        beside: what else is to stand in the manifest, JSON values.

    Raises:
        UsageError: the folder holds files.
        ResourceError: it cannot be written.
    """
    require_room(folder)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    reports = []
    for image in range(len(result.x)):
        place = folder if image == 0 else folder / f"image-{image + 1}"
        data = report_data(result, image=image, command=command, created=created, host=host)
        reports.append(write_report(place, data).html)
        if image == 0:
            # Figures are of all images together, so they are the same in every report.
            write_atomic(folder / "figures.csv", write_csv(data.layers, data.others).encode())
    result.write_samples(folder / "samples.safetensors")
    manifest: dict[str, Any] = {
        "schema": SCHEMA,
        "created": created,
        "command": command,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in RUNS_ON},
        **(beside or {}),
        "analysis": result.to_json(),
        "cinns": {layer.layer: {"sha256": layer.sha256, "was": layer.trained} for layer in result.layers},
        "splits": {layer.layer: layer.split for layer in result.layers},
        "files": {
            path.relative_to(folder).as_posix(): sha256_file(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        },
    }
    write_atomic(folder / "manifest.json", json.dumps(manifest, indent=1, allow_nan=False).encode())
    return RunPaths(folder, reports[0])
