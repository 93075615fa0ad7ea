"""Files of a folder or a zip archive, one at a time, in memory, within fixed size limits."""

__all__ = ["FILE_LIMIT", "Member", "read_members", "shown"]

import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from invkit.errors import ImageError

FILE_LIMIT = 2**30
"""Largest file that is read, in bytes; for a packed file, of what it unpacks to."""

TOTAL_LIMIT = 2**33
COUNT_LIMIT = 100_000
DEPTH_LIMIT = 3
ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")


@dataclass(frozen=True)
class Member:
    """One file: its name below the folder or archive, and its bytes, or None and why it was not read."""

    name: str
    data: bytes | None
    reason: str = ""


class _Budget:
    """What may still be unpacked from one archive and all archives inside it."""

    def __init__(self) -> None:
        self.total, self.count = TOTAL_LIMIT, COUNT_LIMIT


def shown(name: str | Path) -> str:
    """Return a file name that is safe to print: without control characters, 120 characters at most."""
    text = "".join(letter if letter.isprintable() else "?" for letter in str(name))
    return text if len(text) <= 120 else text[:57] + "..." + text[-60:]


def read_members(path: Path) -> Iterator[Member]:
    """Read a file, all files below a folder, or those of a zip archive, sorted by name.

    Symbolic links to folders are not followed. Zip archives inside are opened too, three deep at most.
    Nothing is written anywhere: archives are unpacked in memory, and a file is refused before it is unpacked
    when it states more than `FILE_LIMIT` bytes, and while it is unpacked when it lied. A single file has its
    base name.

    Raises:
        ImageError: there is nothing at `path`, or it may not be looked at.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        cause = (
            error.strerror if isinstance(error, OSError) and error.strerror else "not a possible file name"
        )
        raise ImageError(f"cannot read {shown(path)}: {cause}. Check the path") from None
    if stat.S_ISDIR(mode):
        for folder, folders, names in os.walk(path):
            folders.sort()
            for name in sorted(names):
                file = Path(folder, name)
                yield from _file(file, str(file.relative_to(path)))
    else:
        yield from _file(path, path.name)


def _file(path: Path, name: str) -> Iterator[Member]:
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            yield Member(shown(name), None, "is not a regular file")
            return
        with path.open("rb") as stream:
            magic = stream.read(4)
            stream.seek(0)
            if magic in ZIP_MAGIC:
                yield from _archive(stream, name, _Budget(), 1)
            elif status.st_size > FILE_LIMIT:
                yield Member(shown(name), None, f"has {status.st_size} bytes, the limit is {FILE_LIMIT}")
            else:
                yield Member(shown(name), stream.read(FILE_LIMIT))
    except OSError as error:
        yield Member(shown(name), None, f"cannot be read ({error.strerror or type(error).__name__})")


def _archive(stream: BinaryIO, name: str, budget: _Budget, depth: int) -> Iterator[Member]:
    try:
        archive = zipfile.ZipFile(stream)
    # A damaged directory makes zipfile raise nearly anything.
    except Exception:
        yield Member(shown(name), None, "is a damaged zip archive")
        return
    with archive:
        for entry in sorted(archive.infolist(), key=lambda entry: entry.filename):
            if entry.is_dir():
                continue
            label = entry.filename if depth == 1 else f"{name}/{entry.filename}"
            budget.count -= 1
            if budget.count < 0:
                yield Member(
                    shown(label), None, f"stands behind the first {COUNT_LIMIT} files of the archive"
                )
                return
            data, reason = _unpack(archive, entry, budget)
            if data is None or data[:4] not in ZIP_MAGIC:
                yield Member(shown(label), data, reason)
            elif depth >= DEPTH_LIMIT:
                yield Member(shown(label), None, f"is a zip archive more than {DEPTH_LIMIT} archives deep")
            else:
                yield from _archive(BytesIO(data), label, budget, depth + 1)


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, budget: _Budget) -> tuple[bytes | None, str]:
    """Return the bytes of one entry, or None and why not; the limits hold whatever the entry states."""
    place = PurePosixPath(entry.filename.replace("\\", "/"))
    if place.is_absolute() or ".." in place.parts or "\0" in entry.filename:
        return None, "has a name that leaves the archive"
    if entry.flag_bits & 1:
        return None, "is encrypted"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return None, "is packed by a method other than deflate"
    limit = min(FILE_LIMIT, budget.total)
    if entry.file_size > limit:
        return None, f"unpacks to {entry.file_size} bytes, the limit is {limit}"
    try:
        with archive.open(entry) as stream:
            data = stream.read(limit + 1)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError, NotImplementedError):
        # zipfile has all of these for damaged archives: the last where a header names a feature that it lacks.
        return None, "is damaged in the archive"
    if len(data) > limit:
        return None, f"unpacks to more than {limit} bytes"
    budget.total -= len(data)
    return data, ""
