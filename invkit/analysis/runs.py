"""Run folders: one analysis on disk with its report, samples and manifest; never overwritten."""

__all__ = ["AnalysisResult", "RunPaths", "new_run_folder", "require_room", "save_run", "write_run"]

import json
import platform
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from invkit.analysis.outcome import Outcome
from invkit.analysis.presentation import report_data, write_html
from invkit.artifacts import sha256_file, write_atomic
from invkit.errors import ResourceError, UsageError
from invkit.plugins.manager import PluginHost
from invkit.report.table import write_csv
from invkit.report.write import write_report
from invkit.training.processes.plan import require_writable

SCHEMA = "invkit.manifest/1"
RUNS_ON = ("invkit", "torch", "numpy", "pydicom", "safetensors", "scikit-image", "matplotlib")


@dataclass(frozen=True)
class RunPaths:
    """Where a run lies, its report, and all its files."""

    folder: Path
    report: Path
    files: tuple[Path, ...]


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


def save_run(result: Outcome, folder: Path, *, command: str = "", host: PluginHost | None = None) -> RunPaths:
    """Write report, figures, samples and manifest to a folder; the manifest, which holds the hashes, comes last.

    The report shows the first image; further ones get a report each in `image-2`, `image-3`, ...

    Args:
        result: the analysis.
        folder: new or empty.
        command: a command line that makes the result again.
        host: the plugins, which can add sections to the report.

    Raises:
        UsageError: the folder holds files.
        ResourceError: it cannot be written.
    """
    require_room(folder)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return write_run(result, folder, created=created, command=command, host=host)


def write_run(
    result: Outcome, folder: Path, *, created: str, command: str, host: PluginHost | None = None
) -> RunPaths:
    """Write what `save_run` does, where such files may be already; with equal arguments it is the same, byte for byte.

    Args:
        result: the analysis.
        folder: may hold other files, too.
        created: when it was made, for people; left out where it is empty.
        command: as for `save_run`.
        host: as for `save_run`.

    Raises:
        ResourceError: it cannot be written.
    """
    files: list[Path] = []
    for image in range(len(result.x)):
        place = folder if image == 0 else folder / f"image-{image + 1}"
        data = report_data(result, image=image, command=command, created=created, host=host)
        report = write_report(place, data)
        files += [report.html, report.json, *report.figures]
        if image == 0:
            # Figures are of all images together, so they are the same in every report.
            table = folder / "figures.csv"
            write_atomic(table, write_csv(data.layers, data.others).encode())
            files.append(table)
    samples = folder / "samples.safetensors"
    result.write_samples(samples)
    files += [samples, samples.with_suffix(".json")]
    manifest: dict[str, Any] = {
        "schema": SCHEMA,
        **({"created": created} if created else {}),
        "command": command,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in RUNS_ON},
        "analysis": result.to_json(),
        "cinns": {layer.layer: {"sha256": layer.sha256, "was": layer.trained} for layer in result.layers},
        "splits": {layer.layer: layer.split for layer in result.layers},
        "files": {path.relative_to(folder).as_posix(): sha256_file(path) for path in sorted(files)},
    }
    path = folder / "manifest.json"
    write_atomic(path, json.dumps(manifest, indent=1, allow_nan=False).encode())
    return RunPaths(folder, folder / "report.html", (*files, path))


@dataclass(frozen=True)
class AnalysisResult(Outcome):
    """The result of `invkit.analyze`: one or more layers of one denoiser on the same images.

    The images and figures of the first layer are available directly.

    Args:
        model: name of the denoiser.
        subject: the images.
        domain: `"low"` or `"high"`.
        layers: one result for each requested layer.
        f_x: f(x), `(B, 1, H, W)`, HU.
        vae: D(E(x)), `(B, 1, H, W)`, HU; `None` where no VAE was needed.
        provenance: what determined the result: seeds, versions, hashes.
        warnings: sentences that the reader should see first.
        retained: what each layer retains of the code, from the image to the output.
        regression: how well the image is estimated from each layer, in the same order.
        sampler: name of the sampler.
    """

    def save(self, folder: str | Path) -> Path:
        """Write samples, report and manifest to a folder that does not exist yet or is empty; return it.

        Raises:
            UsageError: the folder holds files.
            ResourceError: it cannot be written.
        """
        return save_run(self, Path(folder)).folder

    def report(self, path: str | Path) -> Path:
        """Write the HTML report, one file that holds its figures; return its path."""
        return write_html(self, Path(path))
