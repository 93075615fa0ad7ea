"""Work that falls into items, which any number of processes take whole; a folder that all see is what they have in common."""

__all__ = ["ITEMS", "Item", "file_name", "record_of", "work_off"]

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from invkit._version import __version__
from invkit.artifacts import fingerprint, sha256_file, write_atomic
from invkit.errors import InvkitError, ResourceError
from invkit.training.processes.failure import described, rebuilt
from invkit.training.processes.held import taken
from invkit.training.processes.interrupt import Interrupted

ITEMS = "items"
POLL_SECONDS = 0.1
LONGEST_POLL = 2.0


@dataclass(frozen=True)
class Item:
    """One piece of work, done by one process from beginning to end.

    Args:
        name: words that tell it from the others, parted by single spaces.
        key: fingerprint of what decides its files, besides those of the items that it needs.
        work: does it, and returns the files that it wrote, all of them in the folder of the items. What it leaves when it is
            killed must not be in the way of whoever does it again.
        needs: names of items that must be done before.
        there: whether it need not be done at all, as a part that is found in the cache; asked when what it needs is done.
        passing: its files are only for the items that need it: once those are done, it counts as done without them.
    """

    name: str
    key: str
    work: Callable[[], Iterable[Path]]
    needs: tuple[str, ...] = ()
    there: Callable[[], bool] | None = None
    passing: bool = False


def work_off(
    folder: Path, items: Sequence[Item], *, threads: int, say: Callable[[str], None]
) -> tuple[str, ...]:
    """Do what is left of some items, together with whatever other processes call this; return the names of those done here.

    An item is done where its record below `items` names the key of it and of what it needs, and every file in it is there, bit
    for bit. Of the others each process takes the first that needs nothing undone and that no other holds, does it, and looks
    again; it returns when all are done. A process that is killed frees its item, and another one does it again.

    Args:
        folder: that all processes see.
        items: the same in all processes, in an order in which one process can do them.
        threads: of torch for each item, so that it comes out the same in every process.
        say: called with one line for each item, and where others are waited for.

    Raises:
        InvkitError: an item failed, here or in another process. It is not tried again before the next call.
    """
    records = _Records(folder, items)
    for item in items:
        records.failure(item).unlink(missing_ok=True)
    before = sum(map(records.is_done, items))
    if before:
        say(f"{before} of {len(items)} items were done before")
    done: list[str] = []
    awaited, pause = "", POLL_SECONDS
    while left := [item for item in items if not records.is_done(item)]:
        records.listen()
        ready = [item for item in left if all(records.is_done(records.items[name]) for name in item.needs)]
        own = next((item for item in ready if _did(records, item, threads, say)), None)
        if own is not None:
            done.append(own.name)
            awaited, pause = "", POLL_SECONDS
            continue
        names = ", ".join(item.name for item in ready)
        if names and names != awaited:
            say(f"waiting for other processes: {names}")
            awaited = names
        time.sleep(pause)
        pause = min(1.5 * pause, LONGEST_POLL)
    return tuple(done)


def record_of(folder: Path, name: str) -> dict[str, Any] | None:
    """Return what is recorded of an item, done or begun; `None` where it was there from the start, or was not reached yet.

    A record that is damaged is empty.
    """
    try:
        record: dict[str, Any] = json.loads(_place(folder, name, "json").read_bytes())
        return {**record, "status": record["status"], "key": record["key"], "files": dict(record["files"])}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return {}


def file_name(text: str) -> str:
    """Return a text as a file name: its letters, digits, `-` and `_`, and a hash where that loses anything."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in text)[:60]
    return plain if plain == text else f"{plain}-{fingerprint(text)[:8]}"


def _place(folder: Path, name: str, kind: str) -> Path:
    return folder / ITEMS / f"{'.'.join(map(file_name, name.split(' ')))}.{kind}"


def _did(records: "_Records", item: Item, threads: int, say: Callable[[str], None]) -> bool:
    """Do an item where no other process is at it; return whether it was done here."""
    lock = taken(records.place(item, "lock"))
    if lock is None:
        return False
    try:
        if records.is_done(item):
            return False  # it was, between the look and the lock
        records.listen()
        number = list(records.items).index(item.name) + 1
        say(f"{number} of {len(records.items)}, {item.name}")
        records.begin(item, threads)
        with _threads(threads):
            records.finish(item, threads, item.work())
    except (KeyboardInterrupt, Interrupted):
        raise  # this process is asked to stop, and the others may go on
    except BaseException as error:
        records.fail(item, error)
        if isinstance(error, InvkitError):
            error.add_note(f"in item {item.name}")
        raise
    finally:
        lock.release()
    return True


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Records:
    """What is known of items: one JSON file each, which holds no time and no process, so that it is the same whoever did it."""

    def __init__(self, folder: Path, items: Sequence[Item]) -> None:
        self.folder = folder
        self.items = {item.name: item for item in items}
        assert len(self.items) == len(items)
        self._heirs = {name: [item for item in items if name in item.needs] for name in self.items}
        self._done: set[str] = set()  # found to be done in this call
        self._checked = {item.name for item in items if (self._read(item) or {}).get("status") != "done"}

    def place(self, item: Item, kind: str) -> Path:
        """Return a file of an item."""
        return _place(self.folder, item.name, kind)

    def failure(self, item: Item) -> Path:
        """Return where the failure of an item is told."""
        return self.place(item, "failed")

    def is_done(self, item: Item) -> bool:
        """Return whether an item need not be done, or not again."""
        if item.name in self._done:
            return True
        if not all(self.is_done(self.items[name]) for name in item.needs):
            return False  # it may have to be done again, once those are there
        found = self._is_complete(item)
        if not found and item.passing:
            heirs = self._heirs[item.name]
            found = self._is_recorded(item) and bool(heirs) and all(map(self._is_complete, heirs))
        if not found and item.there is not None and self._read(item) is None:
            found = item.there()
        if found:
            self._done.add(item.name)
        return found

    def listen(self) -> None:
        """Raise what made an item fail in another process."""
        for item in self.items.values():
            told = None
            with suppress(OSError, ValueError):
                told = json.loads(self.failure(item).read_bytes())
            if told is not None:
                raise rebuilt(told, f"{item.name}, in another process")

    def begin(self, item: Item, threads: int) -> None:
        """Note that an item is not there and has to be done; files of it that were changed are taken away."""
        for name, sha256 in (self._read(item) or {}).get("files", {}).items():
            if not self._is_intact(name, sha256):
                (self.folder / name).unlink(missing_ok=True)
        self._write(item, threads, "begun", {})

    def finish(self, item: Item, threads: int, paths: Iterable[Path]) -> None:
        """Note that an item is done, and which files it wrote."""
        files = {path.relative_to(self.folder).as_posix(): sha256_file(path) for path in sorted(paths)}
        self._write(item, threads, "done", files)

    def fail(self, item: Item, error: BaseException) -> None:
        """Tell the other processes why an item failed."""
        with suppress(ResourceError):
            write_atomic(self.failure(item), json.dumps(described(error)).encode())

    def _write(self, item: Item, threads: int, status: str, files: Mapping[str, str]) -> None:
        record = {
            "item": item.name,
            "status": status,
            "key": self._key(item),
            "invkit": __version__,
            "torch": str(torch.__version__),
            "threads": threads,
            "files": files,
        }
        write_atomic(self.place(item, "json"), json.dumps(record, indent=1).encode())

    def _key(self, item: Item) -> str:
        """Return the fingerprint of all that decides an item: its own key, and the files of what it needs."""
        needed = {name: (self._read(self.items[name]) or {}).get("files", {}) for name in item.needs}
        return fingerprint({"key": item.key, "needs": needed})

    def _read(self, item: Item) -> dict[str, Any] | None:
        return record_of(self.folder, item.name)

    def _is_recorded(self, item: Item) -> bool:
        record = self._read(item) or {}
        return record.get("status") == "done" and record["key"] == self._key(item)

    def _is_complete(self, item: Item) -> bool:
        """Return whether an item is recorded and its files are as they were written.

        Files are read only where the record was there before this call: what another process writes meanwhile is taken as it
        says, for it has just been moved into place as a whole.
        """
        record = self._read(item)
        if record is None or not self._is_recorded(item):
            return False
        if item.name not in self._checked:
            if not all(self._is_intact(name, sha256) for name, sha256 in record["files"].items()):
                return False
            self._checked.add(item.name)
        return True

    def _is_intact(self, name: str, sha256: str) -> bool:
        path = self.folder / name
        return path.is_file() and sha256_file(path) == sha256
