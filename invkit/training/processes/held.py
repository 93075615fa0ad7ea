"""Locks of files that say at once whether they are free; the system frees those of a process that dies."""

__all__ = ["taken"]

import errno
import warnings
from pathlib import Path

from filelock import FileLock, Timeout

from invkit.errors import ResourceError

NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP)


def taken(path: Path) -> FileLock | None:
    """Return a lock that this process holds from now on, for its `release`; `None` where another one holds it.

    Args:
        path: a file that is made, with its folder, if it is missing, and stays there.

    Raises:
        ResourceError: it cannot be made or written.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        return None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise ResourceError(
                f"cannot write in {path.parent}: {error.strerror or error}. "
                "Choose another folder or fix its permissions"
            ) from error
        # Some network file systems have no locks; one process there is still better than none.
        warnings.warn(
            f"the file system of {path.parent} has no locks: run one process at a time", stacklevel=3
        )
    return lock
