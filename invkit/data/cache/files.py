"""The files of a cache of slices: index, journal, shards, salt; written so that nothing is ever half there.

::

    CACHE/index.json      what every shard holds, with the sha256 of each; its own sha256
    CACHE/split.json      which patient belongs to which part
    CACHE/shards/*.npy    pixels in HU, shape (slices, 1 or 2 doses, H, W), int16 where that loses nothing, else float32
    CACHE/salt            what pseudonyms are hashed with; not to be passed on
    CACHE/journal.jsonl   shards finished so far, while the cache is being prepared
"""

__all__ = [
    "Index",
    "Record",
    "Source",
    "is_cache",
    "open_shard",
    "read_index",
    "read_journal",
    "write_index",
    "write_shard",
]

import hashlib
import json
import os
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from invkit.artifacts import fingerprint, sha256_file, write_atomic
from invkit.errors import DataError, ResourceError

SCHEMA = "invkit.cache/1"
INDEX, JOURNAL, SHARDS = "index.json", "journal.jsonl", "shards"
AGAIN = "Run invkit data prepare on it again"


class Source(BaseModel):
    """A file that slices were read from, by a salted hash of its path: how to notice that it has changed."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    key: str
    size: int
    mtime_ns: int
    sha256: str


class Record(BaseModel):
    """What one shard holds, and what it was made of; the shard is `shards/<key>.npy`.

    Attributes:
        key: name of the shard, a salted hash.
        root: salted hash of the path it was found below.
        request: fingerprint of what was asked for: files, frames, patient, rescale.
        sha256: of the shard; `None` where no slice could be read, so that there is none.
        dtype: `"int16"` or `"float32"`.
        shape: slices, doses (full first), height, width.
        patient: public id or salted pseudonym.
        exam: type of the examination.
        series: salted pseudonym.
        kernel: reconstruction kernel.
        spacing: rows and columns, mm.
        thickness: mm.
        dose: of the low-dose images as a fraction, where it is known.
        positions: of each slice, mm.
        noise: standard deviation of each full-dose slice's noise, HU.
        added: standard deviation of what low dose adds to each slice, HU; empty without a low-dose partner.
        sources: the files.
        skipped: why files or slices are missing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    key: str
    root: str
    request: str
    sha256: str | None
    dtype: str
    shape: tuple[int, int, int, int]
    patient: str
    exam: str
    series: str
    kernel: str | None
    spacing: tuple[float, float] | None
    thickness: float | None
    dose: float | None
    positions: tuple[float | None, ...]
    noise: tuple[float, ...]
    added: tuple[float, ...]
    sources: tuple[Source, ...]
    skipped: tuple[str, ...]

    @property
    def paired(self) -> bool:
        """Whether the slices have a low-dose partner."""
        return self.shape[1] == 2


class Index(BaseModel):
    """What stands in `index.json`.

    Attributes:
        name: salted name of the cache; stays when the cache grows.
        complete: whether its preparation came to its end.
        shards: every record, by key.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    complete: bool
    shards: tuple[Record, ...]


def is_cache(folder: Path) -> bool:
    """Return whether a folder is a cache, finished or not."""
    try:
        with (folder / INDEX).open("rb") as stream:
            return f'"schema": "{SCHEMA}"'.encode() in stream.read(100)
    except OSError:
        return False


def write_index(folder: Path, index: Index) -> None:
    """Write the index of a cache.

    Raises:
        ResourceError: it cannot be written.
    """
    content = index.model_dump(mode="json")
    stated = {"schema": SCHEMA, "sha256": fingerprint(content), **content}
    write_atomic(folder / INDEX, json.dumps(stated, indent=1, allow_nan=False).encode())


def read_index(folder: Path) -> Index:
    """Return the index of a cache.

    Raises:
        DataError: it is missing, damaged or of another version.
    """
    path = folder / INDEX
    try:
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict) or content.pop("schema", None) != SCHEMA:
            raise DataError(f"{path} is not an index of schema {SCHEMA}. Prepare a new cache")
        stated = content.pop("sha256", None)
        if stated != fingerprint(content):
            raise DataError(
                f"{path} was changed: its sha256 differs from the one it states. Prepare a new cache"
            )
        return Index.model_validate(content)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError, ValidationError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is damaged. Prepare a new cache") from None


def add_to_journal(folder: Path, record: Record) -> None:
    """Add one record to the journal and sync it to disk.

    Raises:
        ResourceError: it cannot be written.
    """
    try:
        with (folder / JOURNAL).open("a", encoding="utf-8") as stream:
            stream.write(record.model_dump_json() + "\n")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise ResourceError(
            f"cannot write in {folder}: {error.strerror or error}. Free some space"
        ) from error


def read_journal(folder: Path) -> list[Record]:
    """Return the records of the journal; a line that was cut short is left out."""
    try:
        lines = (folder / JOURNAL).read_bytes().splitlines()
    except OSError:
        return []
    records = []
    for line in lines:
        try:
            records.append(Record.model_validate_json(line))
        except ValidationError:
            continue
    return records


def write_shard(folder: Path, key: str, values: NDArray[Any]) -> str:
    """Write a shard and return its sha256.

    Raises:
        ResourceError: it cannot be written.
    """
    stream = BytesIO()
    np.lib.format.write_array(stream, values, version=(1, 0), allow_pickle=False)
    data = stream.getvalue()
    write_atomic(shard_path(folder, key), data)
    return hashlib.sha256(data).hexdigest()


def open_shard(folder: Path, record: Record) -> np.memmap[Any, Any]:
    """Return the pixels of a shard, memory-mapped, read only, after a check of every byte.

    Raises:
        DataError: it is missing or was changed.
    """
    path = shard_path(folder, record.key)
    if not shard_is_intact(folder, record):
        state = "was changed: its sha256 is not that of the index" if path.exists() else "is missing"
        raise DataError(f"{path} {state}. {AGAIN}: it rewrites the shard")
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot map {path}: {type(error).__name__}") from None
    if not isinstance(values, np.memmap) or values.shape != record.shape or values.dtype.name != record.dtype:
        raise DataError(f"{path} does not match the index. {AGAIN}")
    return values


def shard_is_intact(folder: Path, record: Record) -> bool:
    """Return whether a shard is, byte for byte, the one of the record; a record of no slices needs none."""
    if record.sha256 is None:
        return True
    try:
        return sha256_file(shard_path(folder, record.key)) == record.sha256
    except OSError:
        return False


def shard_path(folder: Path, key: str) -> Path:
    """Return where a shard is."""
    return folder / SHARDS / f"{key}.npy"
