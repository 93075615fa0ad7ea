"""What the C library does with memory that is freed: by default it goes back to the system and is fetched again page by page."""

__all__ = ["give_back", "keep_freed_memory"]

import ctypes
import functools
import os
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
KEPT = 512 << 20  # bytes free at the end of the heap
# largest block that comes from the heap, bytes; older versions of glibc allow the second only
FROM_HEAP = (64 << 20, 32 << 20)
CHOSEN = ("MALLOC_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory of this process, up to 128 MB, for what is allocated next; return whether it does now.

    Activations of some ten megabytes are allocated and freed all the time. By default each is mapped and unmapped, and the
    system clears its pages anew, which can take longer than the convolutions. The programs of invkit call this; importing it
    changes nothing. Blocks of more than 64 MB go back at once: a heap with holes of their size would grow. Where the
    environment chooses settings (`MALLOC_...`, `GLIBC_TUNABLES`), or the C library is another, nothing is done.
    """
    if any(name.startswith(CHOSEN) for name in os.environ):
        return False
    mallopt = getattr(_c_library(), "mallopt", None)
    if mallopt is None:
        return False
    # mallopt gives 1 where it took the value.
    return any(mallopt(M_MMAP_THRESHOLD, most) for most in FROM_HEAP) and bool(
        mallopt(M_TRIM_THRESHOLD, KEPT)
    )


def give_back() -> None:
    """Give freed memory back to the system where the C library can, so that what the process has is what it uses."""
    trim = getattr(_c_library(), "malloc_trim", None)
    if trim is not None:
        trim(0)


@functools.cache
def _c_library() -> Any:
    try:
        return ctypes.CDLL(None)
    except (OSError, TypeError):
        return None
