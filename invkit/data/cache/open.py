"""A prepared cache of slices, open for reading: every byte checked once, then mapped into memory."""

__all__ = ["LDCT", "TRAINING_RANGE", "Mapped", "OpenCache", "cache_source", "open_cache", "split_sha256"]

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from invkit.artifacts import fingerprint
from invkit.data.cache.files import AGAIN, Record, open_shard, read_index
from invkit.data.cache.split import PatientSplit, entries_hash, read_split, stratum
from invkit.errors import DataError

LDCT = "ldct"
"""Source of the patients of the public low-dose data sets, the same in every cache."""

PSEUDONYM = "patient-"
TRAINING_RANGE = (-1024.0, 3071.0)
"""HU that training data are clipped to."""


@dataclass(frozen=True, eq=False)
class Mapped:
    """The pixels of one slice at one dose, on disk until they are looked at.

    Args:
        shard: a shard, `(slices, doses, H, W)`.
        index: of the slice.
        dose: 0 for full, 1 for low.
    """

    shard: np.memmap[Any, Any]
    index: int
    dose: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.shard.shape[2], self.shard.shape[3]

    def cut(self, row: int, column: int, size: int) -> NDArray[np.float32]:
        """Return a patch, `(size, size)`, float32, HU, clipped to what training data hold."""
        part = self.shard[self.index, self.dose, row : row + size, column : column + size]
        return _clipped(part)

    def __call__(self) -> NDArray[np.float32]:
        """Return the whole slice, `(H, W)`, float32, HU, clipped to what training data hold."""
        return _clipped(self.shard[self.index, self.dose])


def _clipped(stored: NDArray[Any]) -> NDArray[np.float32]:
    clipped: NDArray[np.float32] = np.clip(stored, *TRAINING_RANGE, dtype=np.float32)
    return clipped


@dataclass(frozen=True)
class OpenCache:
    """What a cache holds.

    Args:
        source: name of the source: `"ldct"` where all patients have public ids, else one of the cache's own.
        split: who is in which part.
        shards: records and their pixels.
        fingerprint: over all pixels and the split.
    """

    source: str
    split: PatientSplit
    shards: tuple[tuple[Record, np.memmap[Any, Any]], ...]
    fingerprint: str


def open_cache(folder: Path) -> OpenCache:
    """Open a cache; the sha256 of every shard is checked, in threads.

    Raises:
        DataError: its preparation did not come to its end, a file is missing or was changed, or it is empty.
    """
    index = read_index(folder)
    if not index.complete:
        raise DataError(f"the preparation of {folder} was interrupted. {AGAIN}: it resumes")
    records = [record for record in index.shards if record.sha256 is not None]
    found = read_split(folder)
    if found is None:
        raise DataError(f"{folder} has no split.json. {AGAIN}")
    split, stated = found
    if lost := sorted({record.patient for record in records} ^ set(split.parts)):
        raise DataError(f"split.json of {folder} and its index differ in {len(lost)} patients. {AGAIN}")
    source = cache_source(index.name, split.parts)
    if stated != split_sha256(source, split):
        raise DataError(f"split.json of {folder} was changed. {AGAIN} if you want the new sets")
    if not records:
        raise DataError(f"{folder} holds no slice")
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        shards = tuple(zip(records, pool.map(partial(open_shard, folder), records), strict=True))
    content = sorted(
        fingerprint([record.sha256, record.patient, record.exam, record.spacing, record.noise])
        for record in records
    )
    return OpenCache(source, split, shards, fingerprint({"shards": content, "split": stated}))


def cache_source(name: str, patients: Iterable[str]) -> str:
    """Return the name of a cache as a source of slices.

    Public ids mean the same patients everywhere, so what is trained on them can be told apart by the split alone.
    """
    return name if any(patient.startswith(PSEUDONYM) for patient in patients) else LDCT


def split_sha256(source: str, split: PatientSplit) -> str:
    """Return the hash of a cache's split, as `SliceSet.split` has it."""
    return entries_hash(
        (stratum(source, split.exams[patient]), patient, part) for patient, part in split.parts.items()
    )
