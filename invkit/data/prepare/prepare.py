"""`invkit data prepare`: from raw files to a cache that training maps into memory; resumable, in several processes."""

__all__ = ["SCHEMA", "Prepared", "prepare"]

import hmac
import os
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from invkit.artifacts import write_atomic
from invkit.data.cache.files import (
    INDEX,
    JOURNAL,
    SHARDS,
    Index,
    Record,
    add_to_journal,
    is_cache,
    read_index,
    read_journal,
    shard_path,
    write_index,
)
from invkit.data.cache.open import cache_source, split_sha256
from invkit.data.cache.split import decide_split, read_split, write_split
from invkit.data.dicom.info import SliceInfo
from invkit.data.partition import PARTS
from invkit.data.prepare.arrays import is_array
from invkit.data.prepare.layouts import LDCT, Series
from invkit.data.prepare.scan import ScanReport, scan
from invkit.data.prepare.shard import Block, Frame, make_shard
from invkit.errors import DataError, ResourceError, UsageError
from invkit.training.lock import LOCK_NAME, exclusive
from invkit.training.processes.pool import in_processes
from invkit.training.progress import Progress, ProgressEvent, TimeLeft

SLICES = 32  # in a shard: with both doses of 512 x 512 as float32 64 MiB, which a worker holds at once
SCHEMA = "invkit.prepare/1"
SALT = "salt"
SHARDS_PER_WORKER = 16
STAGE = "preparing"


@dataclass(frozen=True)
class Prepared:
    """What a preparation came to.

    Args:
        folder: the cache.
        source: its name as a source of slices.
        patients: in all.
        slices: in all, at full dose.
        pairs: of them with a low-dose partner.
        bytes: of all shards.
        written: shards that were made or remade.
        kept: shards that were still right.
        removed: shards whose files are gone.
        parts: patients in train, validation and test.
        rule: by which they were divided.
        split: hash of the split.
        skipped: reasons, and how often.
    """

    folder: Path
    source: str
    patients: int
    slices: int
    pairs: int
    bytes: int
    written: int
    kept: int
    removed: int
    parts: Mapping[str, int]
    rule: str
    split: str
    skipped: Mapping[str, int]

    def describe(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {**vars(self), "folder": str(self.folder.resolve())}


def prepare(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    workers: int | None = 1,
    split: str | None = None,
    rescale: tuple[float, float] | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Make a cache of all slices below paths, or bring one up to date.

    What was prepared before from other paths stays. Of these paths, files that are new or have changed are read, and
    shards whose files are gone are removed. The same call goes on after any interruption.

    Args:
        paths: as for `find_series`.
        out: the cache: a new, empty or earlier one.
        workers: processes; each holds one shard at a time. `None` for as many as the work is worth, up to the cores.
        split: rule by which patients are divided: `"hash-rank"` or `"ldct-benchmark"`; `None` for the cache's own, and
            the hash rank for a new one.
        rescale: slope and intercept by the user's word, taken where a DICOM file lacks them.
        progress: called for each shard.

    Raises:
        DataError: there is nothing usable, `out` holds something else, or its index is damaged.
        ResourceError: no space, no permission, or a worker was killed.
        UsageError: an argument is impossible, or the rule is not that of the cache.
    """
    folder = Path(out)
    if workers is not None and workers < 1:
        raise UsageError(f"workers must be at least 1, got {workers}")
    if (
        not is_cache(folder)
        and folder.exists()
        and (not folder.is_dir() or {item.name for item in folder.iterdir()} - {LOCK_NAME, SALT})
    ):
        raise DataError(f"{folder} is neither empty nor a cache. Choose another folder with --out")
    report = scan(paths, rescale=rescale)
    with exclusive(folder, progress=progress, stage="waiting for another preparation"):
        return _Preparation(folder, workers, split, rescale, progress).run(report, paths)


class _Preparation:
    def __init__(
        self,
        folder: Path,
        workers: int | None,
        rule: str | None,
        rescale: tuple[float, float] | None,
        progress: Progress | None,
    ) -> None:
        self.folder, self.workers, self.rule = folder, workers, rule
        self.rescale, self.progress = rescale, progress
        self.salt = _salt(folder)

    def run(self, report: ScanReport, paths: Sequence[str | Path]) -> Prepared:
        """Make what is missing, then write split and index."""
        name = f"cache-{self._hash('name', 'cache')}"
        index = (
            read_index(self.folder) if is_cache(self.folder) else Index(name=name, complete=True, shards=())
        )
        if index.name != name:
            raise DataError(
                f"{self.folder / SALT} is not the salt that this cache was made with, so its patients cannot be recognised. "
                "Restore it, or prepare a new cache"
            )
        earlier = read_split(self.folder)
        known = {record.key: record for record in (*index.shards, *read_journal(self.folder))}
        blocks = list(self._blocks(report))
        # A wrong rule is found before hours of work.
        decide_split(_exams(known.values()), rule=self.rule, earlier=earlier and earlier[0])
        write_index(self.folder, index.model_copy(update={"complete": False}))
        self._sweep(known)
        made, written = self._make(blocks, known)
        roots = {self._hash("root", str(Path(path).absolute())) for path in paths or (LDCT,)}
        gone = [key for key, record in known.items() if record.root in roots and key not in made]
        records = [record for key, record in sorted({**known, **made}.items()) if key not in gone]
        usable = [record for record in records if record.sha256 is not None]
        if not usable:
            raise DataError(f"no slice could be read ({_reasons(records)})")
        parts = decide_split(_exams(usable), rule=self.rule, earlier=earlier and earlier[0])
        source = cache_source(name, parts.parts)
        sha256 = split_sha256(source, parts)
        write_split(self.folder, parts, sha256)
        write_index(self.folder, Index(name=name, complete=True, shards=tuple(records)))
        (self.folder / JOURNAL).unlink(missing_ok=True)
        for key in gone:
            shard_path(self.folder, key).unlink(missing_ok=True)
        reasons = Counter(skip.reason for skip in report.arrangement.skipped)
        reasons.update(reason for record in made.values() for reason in record.skipped)
        return Prepared(
            folder=self.folder,
            source=source,
            patients=len(parts.parts),
            slices=sum(record.shape[0] for record in usable),
            pairs=sum(record.shape[0] for record in usable if record.paired),
            bytes=sum(shard_path(self.folder, record.key).stat().st_size for record in usable),
            written=written,
            kept=len(made) - written,
            removed=len(gone),
            parts={name: list(parts.parts.values()).count(name) for name in PARTS},
            rule=parts.rule,
            split=sha256,
            skipped=dict(reasons.most_common()),
        )

    def _make(self, blocks: list[Block], known: Mapping[str, Record]) -> tuple[dict[str, Record], int]:
        made: dict[str, Record] = {}
        written, begun = 0, time.monotonic()
        left = TimeLeft(len(blocks))
        # A process takes seconds to begin, a shard about one.
        worth = max(1, sum(block.key not in known for block in blocks) // SHARDS_PER_WORKER)
        workers = self.workers or min(worth, os.cpu_count() or 1)
        calls = [(block, self.folder, known.get(block.key)) for block in blocks]
        for record, new in in_processes(make_shard, calls, workers):
            made[record.key] = record
            written += new
            if record != known.get(record.key):
                add_to_journal(self.folder, record)
            if self.progress is not None:
                seconds = time.monotonic() - begun
                remaining = left.update(len(made), seconds)
                self.progress(ProgressEvent(STAGE, len(made), len(blocks), seconds, remaining))
        return made, written

    def _sweep(self, known: Mapping[str, Record]) -> None:
        """Remove what a killed process left half written, or written but not noted down."""
        shards = self.folder / SHARDS
        wrecks = [path for path in shards.glob("*") if path.name.startswith(".") or path.stem not in known]
        for path in (*wrecks, *self.folder.glob(".*.json.*"), *self.folder.glob(f".{SALT}.*")):
            path.unlink(missing_ok=True)

    def _blocks(self, report: ScanReport) -> Iterator[Block]:
        arrangement = report.arrangement
        for pair in arrangement.pairs:
            yield from self._series_blocks(pair.full, pair.slices, pair.low, pair.dose)
        for single in arrangement.singles:
            yield from self._series_blocks(single, [(item,) for item in single.slices], None, None)

    def _series_blocks(
        self,
        full: Series,
        frames: Sequence[tuple[SliceInfo, ...]],
        low: Series | None,
        dose: float | None,
    ) -> Iterator[Block]:
        series = self._hash("series", full.key, "" if low is None else low.key)
        patient = full.patient if full.public else f"patient-{self._hash('patient', full.patient)}"
        for number, part in enumerate(_chunks(frames)):
            yield Block(
                key=self._hash("shard", series, str(number)),
                root=self._hash("root", str(full.root)),
                patient=patient,
                exam=full.exam,
                series=f"series-{series}",
                shape=(full.first.rows, full.first.cols),
                frames=tuple(tuple(self._frame(item) for item in frame) for frame in part),
                positions=tuple(frame[0].position for frame in part),
                kernel=full.first.kernel,
                spacing=full.first.spacing,
                thickness=full.first.thickness,
                dose=dose,
                rescale=self.rescale,
            )

    def _frame(self, info: SliceInfo) -> Frame:
        return Frame(info.file, info.frame, self._hash("file", str(info.file.absolute())))

    def _hash(self, *words: str) -> str:
        return hmac.digest(self.salt, "\0".join(words).encode(), "sha256").hex()[:16]


def _chunks(frames: Sequence[tuple[SliceInfo, ...]]) -> Iterator[list[tuple[SliceInfo, ...]]]:
    """Yield what goes into one shard each; a DICOM file of many frames, which is decoded as a whole, is not cut."""
    chunk: list[tuple[SliceInfo, ...]] = []
    for frame in frames:
        cut = not chunk or is_array(frame[0].file) or frame[0].file != chunk[-1][0].file
        if len(chunk) >= SLICES and cut:
            yield chunk
            chunk = []
        chunk.append(frame)
    if chunk:
        yield chunk


def _exams(records: Iterable[Record]) -> dict[str, str]:
    """Return the type of examination of every patient: the one of most of the slices."""
    counts: dict[str, Counter[str]] = {}
    for record in records:
        if record.sha256 is not None:
            counts.setdefault(record.patient, Counter())[record.exam] += record.shape[0]
    return {patient: max(sorted(exams), key=exams.__getitem__) for patient, exams in counts.items()}


def _reasons(records: Sequence[Record]) -> str:
    counts = Counter(reason for record in records for reason in record.skipped)
    return "; ".join(f"{count} x: {reason}" for reason, count in counts.most_common(3))


def _salt(folder: Path) -> bytes:
    """Return the secret of a cache, made at its first preparation."""
    path = folder / SALT
    if (folder / INDEX).exists() and not path.exists():
        raise DataError(
            f"{path} is missing, so the patients in the cache cannot be recognised: it can be used for training, but not prepared "
            "again. Prepare a new cache"
        )
    try:
        if not path.exists():
            write_atomic(path, secrets.token_hex(32).encode())
            path.chmod(0o600)
        return bytes.fromhex(path.read_text())
    except ValueError:
        raise DataError(
            f"{path} is damaged: it must hold 64 hexadecimal digits. Prepare a new cache"
        ) from None
    except (FileNotFoundError, PermissionError) as error:
        raise ResourceError(f"cannot read or write {path}: {error.strerror or error}") from error
