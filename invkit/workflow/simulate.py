"""A whole series at a lower dose: slices in parallel, each written once and found again by its hash."""

__all__ = ["INDEX", "DoseSettings", "SimulatedSeries", "simulate_series"]

import hashlib
import json
import os
import re
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from invkit.artifacts import fingerprint, sha256_file, write_atomic
from invkit.data.dicom.pixels import AIR
from invkit.data.dicom.slice import DicomSlice
from invkit.data.dicom.write import derived_ct, derived_uid
from invkit.data.dose.physics import ELECTRONIC
from invkit.data.dose.rays import SIMULATION_VERSION, calibrate_photons, simulate_dose
from invkit.data.dose.scanner import Scanner
from invkit.data.images import read_dicom_slices, read_image
from invkit.errors import ArtifactError, DataError, ResourceError, UsageError
from invkit.training.lock import exclusive
from invkit.training.processes.pool import in_processes
from invkit.training.progress import Progress, ProgressEvent, TimeLeft
from invkit.training.seeds import derive_seed

INDEX = "index.json"
SCHEMA = "invkit.simulated/1"
STAGE = "simulating"
FILE = re.compile(r"\d{4,}\.(dcm|npy)")
UNFINISHED = re.compile(
    r"\.(\d{4,}\.(dcm|npy)|index\.json)\.\w+"
)  # what `write_atomic` leaves when it is killed


@dataclass(frozen=True)
class DoseSettings:
    """What decides the noise; see `invkit.data.dose.rays.simulate_dose`.

    Args:
        dose: fraction of the full dose, in (0, 1].
        seed: together with the pixels of a slice, decides its noise.
        photons: of an unattenuated ray at full dose; `None` calibrates each slice on its own noise.
        electronic: standard deviation of the detector's own noise, photons.
        kernel: reconstruction kernel, by name.
        bowtie: a bowtie filter is in the beam.
        modulation: the tube's current is modulated over the rotation.
    """

    dose: float
    seed: int = 0
    photons: float | None = None
    electronic: float = ELECTRONIC
    kernel: str = "standard"
    bowtie: bool = False
    modulation: bool = False

    @property
    def scanner(self) -> Scanner:
        """The scanner of these settings."""
        return Scanner(
            electronic=self.electronic,
            kernel=self.kernel,
            bowtie=self.bowtie,
            modulation=self.modulation,
        )


@dataclass(frozen=True)
class SimulatedSeries:
    """What was written.

    Args:
        folder: holds the slices and their index.
        slices: how many there are.
        made: how many of them this call made; the others were there already.
        photons: per unattenuated ray at full dose, the median over the slices; `None` at dose 1.
        seconds: time that this call took.
    """

    folder: Path
    slices: int
    made: int
    photons: float | None
    seconds: float


@dataclass(frozen=True)
class _Job:
    """One slice to make, as it goes to another process."""

    file: Path
    key: str
    instance: int
    seed: int
    image: NDArray[np.float32]
    spacing: tuple[float, float]
    origin: DicomSlice | None
    series: str
    settings: DoseSettings


def simulate_series(
    source: Path,
    out: Path,
    settings: DoseSettings,
    *,
    spacing: tuple[float, float] | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> SimulatedSeries:
    """Write every slice of a series as it would look at a lower dose, and an index of them.

    DICOM becomes `0001.dcm`, ... sorted by position, with new UIDs and no attribute of the patient but a
    pseudonym; `.npy` becomes `0001.npy`, ... of shape `(H, W)`. A slice that is there already, with the hash
    that the index states, is not made again. The noise of a slice depends on the seed and on its pixels, not
    on the other slices, nor on the number of workers.

    Args:
        source: a DICOM file, folder or zip archive with one series, or an `.npy` file in HU.
        out: folder to write to; new, empty, or left by an earlier call with the same settings and series.
        settings: what decides the noise.
        spacing: distance of rows and of columns, mm; needed where the source does not state it.
        workers: processes, each with one thread; by default as many as there are cores.
        progress: called after each slice.

    Raises:
        ImageError: the source holds no usable CT, or a slice no noise to calibrate on.
        DataError: the source holds several series, or does not state its spacing.
        UsageError: a setting is out of its range, or the folder holds something else.
        ArtifactError: the index in the folder is damaged.
        ResourceError: the folder cannot be written, or a process died.
    """
    begun = time.monotonic()
    if workers is not None and workers < 1:
        raise UsageError(f"--workers must be 1 or more, got {workers}")
    # Nothing is simulated, but every setting is checked before anything is read or written.
    simulate_dose(torch.zeros(0, 1, 16, 16), spacing or (1.0, 1.0), **_options(settings), seed=settings.seed)
    _check_folder(source, out)
    slices, series = _read(source)
    jobs = _jobs(slices, series, settings, spacing, out)
    header = {"version": SIMULATION_VERSION, "series": series, "settings": asdict(settings)}
    with exclusive(out, progress=progress):
        entries = _resumed(out, header, jobs)
        todo = [job for job in jobs if job.file.name not in entries]
        _write_index(out, header, jobs, entries)
        left = TimeLeft(len(jobs))
        for entry in in_processes(_make, [(job,) for job in todo], workers or _cores()):
            entries[entry["file"]] = entry
            _write_index(out, header, jobs, entries)
            if progress is not None:
                done, seconds = len(entries), time.monotonic() - begun
                progress(ProgressEvent(STAGE, done, len(jobs), seconds, left.update(done, seconds)))
    photons = [entry["photons"] for entry in entries.values() if entry["photons"] is not None]
    return SimulatedSeries(
        out.resolve(),
        len(jobs),
        len(todo),
        statistics.median(photons) if photons else None,
        time.monotonic() - begun,
    )


def _options(settings: DoseSettings) -> dict[str, Any]:
    """Return the settings as arguments of `simulate_dose`, except for the seed."""
    return {"dose": settings.dose, "photons": settings.photons, "scanner": settings.scanner}


def _check_folder(source: Path, out: Path) -> None:
    """Refuse to write among other files, or into what is read: the next call would take its slices for full dose."""
    here, there = source.resolve(), out.resolve()
    if there == here or here in there.parents:
        raise UsageError(f"--out {out} lies inside the source. Choose a folder outside it")
    if there.exists() and not there.is_dir():
        raise UsageError(f"--out {out} is a file. Choose a folder")
    others = any(not file.name.startswith(".") for file in there.iterdir()) if there.exists() else False
    if others and not (there / INDEX).exists():
        raise UsageError(f"--out {out} contains other files. Choose a new or empty folder")


def _read(source: Path) -> tuple[list[tuple[NDArray[np.float32], DicomSlice | None]], str | None]:
    """Return the slices in their order, and the pseudonym of their series, which `.npy` has not."""
    if source.suffix.lower() == ".npy" and source.is_file():
        return [(image[0].numpy(), None) for image in read_image(source)], None
    slices = read_dicom_slices(source)
    names = Counter(piece.series for piece in slices)
    if len(names) > 1:
        listed = ", ".join(f"{name} ({count} slices)" for name, count in names.most_common(5))
        raise DataError(
            f"the source contains {len(names)} series: {listed}. Give the folder or file of one of them"
        )
    ordered = sorted(slices, key=lambda piece: piece.order)
    return [(piece.image, piece) for piece in ordered], ordered[0].series


def _jobs(
    slices: list[tuple[NDArray[np.float32], DicomSlice | None]],
    series: str | None,
    settings: DoseSettings,
    spacing: tuple[float, float] | None,
    out: Path,
) -> list[_Job]:
    new_series = fingerprint({"series": series, "settings": asdict(settings), "version": SIMULATION_VERSION})
    seen: Counter[str] = Counter()
    jobs = []
    for number, (image, origin) in enumerate(slices, start=1):
        side = spacing or (None if origin is None else origin.spacing)
        if side is None:
            raise DataError("the source does not state its pixel spacing. Give --spacing in mm")
        pixels = hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).hexdigest()
        # Slices without noise of their own may be equal, and must not get the same.
        seed = derive_seed(settings.seed, pixels, seen[pixels])
        seen[pixels] += 1
        about = None if origin is None else (origin.patient, *origin.order[1:], origin.thickness, origin.kvp)
        key = fingerprint(
            {
                "of": new_series,
                "pixels": pixels,
                "seed": seed,
                "spacing": side,
                "number": number,
                "about": about,
            }
        )
        file = out / f"{number:04d}.{'npy' if origin is None else 'dcm'}"
        jobs.append(_Job(file, key, number, seed, image, side, origin, new_series, settings))
    return jobs


def _resumed(out: Path, header: dict[str, Any], jobs: list[_Job]) -> dict[str, dict[str, Any]]:
    """Return the index's entries for slices that are there, whole and unchanged; delete what is left over."""
    found = _read_index(out / INDEX)
    if found is None:
        return {}
    if {name: found.get(name) for name in header} != header:
        raise UsageError(
            f"--out {out} contains another simulation (other settings or another series). Choose a new folder"
        )
    keys = {job.file.name: job.key for job in jobs}
    entries = {}
    for entry in found["slices"]:
        file = out / Path(entry["file"]).name
        if file.name not in keys and FILE.fullmatch(file.name):
            file.unlink(missing_ok=True)
        elif keys.get(file.name) == entry["key"] and file.is_file() and sha256_file(file) == entry["sha256"]:
            entries[file.name] = entry
    for file in out.iterdir():
        if UNFINISHED.fullmatch(file.name):
            file.unlink(missing_ok=True)
    return entries


def _read_index(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
        usable = found["schema"] == SCHEMA and all(
            isinstance(entry[name], str) for entry in found["slices"] for name in ("file", "key", "sha256")
        )
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ResourceError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, TypeError, KeyError, RecursionError):
        usable, found = False, {}
    if not usable:
        raise ArtifactError(f"{path} is damaged or of another version. Delete its folder and simulate again")
    return dict(found)


def _write_index(
    out: Path, header: dict[str, Any], jobs: Iterable[_Job], entries: dict[str, dict[str, Any]]
) -> None:
    ordered = [entries[job.file.name] for job in jobs if job.file.name in entries]
    text = json.dumps({"schema": SCHEMA, **header, "slices": ordered}, indent=1, allow_nan=False)
    write_atomic(out / INDEX, text.encode())


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute in one thread: in which order sums are added, and so the last bit, is the same for any number of processes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@_one_thread()
def _make(job: _Job) -> dict[str, Any]:
    """Simulate and write one slice; return its entry."""
    y = torch.from_numpy(job.image)[None, None]
    options = _options(job.settings)
    if options["photons"] is None and job.settings.dose < 1:
        options["photons"] = calibrate_photons(y, job.spacing, scanner=options["scanner"])[0]
    x = simulate_dose(y, job.spacing, **options, seed=job.seed)[0, 0].numpy()
    x = np.where(_padding(job.image, job.spacing), job.image, x)
    write_atomic(job.file, _content(job, x))
    return {
        "file": job.file.name,
        "key": job.key,
        "sha256": sha256_file(job.file),
        "photons": options["photons"],
    }


def _padding(image: NDArray[np.float32], spacing: tuple[float, float]) -> NDArray[np.bool_]:
    """Return where a slice shows what its scanner did not: the corners beyond the field of view."""
    y, x = (
        (np.arange(count) - (count - 1) / 2) * side for count, side in zip(image.shape, spacing, strict=True)
    )
    radius = min(count * side for count, side in zip(image.shape, spacing, strict=True)) / 2 - max(spacing)
    padding: NDArray[np.bool_] = (image <= AIR) & (np.hypot(y[:, None], x[None, :]) > radius)
    return padding


def _content(job: _Job, x: NDArray[np.float32]) -> bytes:
    if job.origin is None:
        stream = BytesIO()
        np.save(stream, x.astype(np.float32))
        return stream.getvalue()
    return derived_ct(
        x,
        job.origin,
        spacing=job.spacing,
        instance=job.instance,
        series=derived_uid("series", job.series),
        uid=derived_uid("image", job.key),
        dose=job.settings.dose,
        description=f"dose {job.settings.dose:g} simulated (invkit, version {SIMULATION_VERSION}, "
        f"kernel {job.settings.kernel}, seed {job.settings.seed})",
    )


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
