"""One process at a time in a folder."""

__all__ = ["exclusive"]

import contextlib
import errno
import os
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from invkit.errors import ResourceError
from invkit.training.processes.distributed import barrier, current_scope
from invkit.training.progress import Progress, ProgressEvent

LOCK_NAME = ".lock"
POLL_SECONDS = 0.2
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP)

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
        scope = current_scope()
        if scope is None or scope.shard.rank == 0:
            lock = _acquired(folder, progress, stage)
        if scope is not None:
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
    lock, begun = FileLock(folder / LOCK_NAME), time.monotonic()
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
            return lock
        except Timeout:
            pass
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise ResourceError(
                    f"cannot write in {folder}: {error.strerror or error}. "
                    "Choose another folder or mend its permissions"
                ) from error
            # Some network file systems have no locks; a training there is still better than none.
            warnings.warn(
                f"the file system of {folder} has no locks: run one process at a time", stacklevel=4
            )
            return lock
        if progress is not None:
            progress(ProgressEvent(stage, 0, 0, time.monotonic() - begun))
        time.sleep(POLL_SECONDS)
