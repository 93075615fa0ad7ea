"""One process at a time in a folder."""

__all__ = ["exclusive"]

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from invkit.training.processes.distributed import barrier, current_shard, in_own_group
from invkit.training.processes.held import taken
from invkit.training.progress import Progress, ProgressEvent

LOCK_NAME = ".lock"
POLL_SECONDS = 0.2

# Locks held here: (process, thread, file) -> depth. The process is in the key because a fork copies it.
_held: dict[tuple[int, int, str], int] = {}


@contextlib.contextmanager
def exclusive(folder: Path, *, progress: Progress | None = None, stage: str = "waiting") -> Iterator[None]:
    """Hold `folder` (made if missing) for this thread; others wait until it is left or its process has ended.

    The system frees the lock of a process that dies. Entering again in the same thread does not wait. Who
    had to wait should look again whether there is anything left to do. Processes of a group that invkit has opened
    hold it together: rank 0 for all of them, and all must come.

    Args:
        folder: what is locked, through a file `.lock` in it that stays there.
        progress: receives every 0.2 s how long this process has been waiting, with `stage`.
        stage: what the waiting is called.

    Raises:
        ResourceError: the folder cannot be made or written.
    """
    key = (os.getpid(), threading.get_ident(), str(Path(folder).absolute()))
    if key in _held:
        _held[key] += 1
        try:
            yield
        finally:
            _held[key] -= 1
        return
    lock = None
    try:
        shared = in_own_group()
        if not shared or current_shard().rank == 0:
            lock = _acquired(folder, progress, stage)
        if shared:
            barrier()
        _held[key] = 0
        try:
            yield
        finally:
            del _held[key]
    finally:
        if lock is not None:
            lock.release()


def _acquired(folder: Path, progress: Progress | None, stage: str) -> FileLock:
    begun = time.monotonic()
    while (lock := taken(folder / LOCK_NAME)) is None:
        if progress is not None:
            progress(ProgressEvent(stage, 0, 0, time.monotonic() - begun))
        time.sleep(POLL_SECONDS)
    return lock
