"""What the C library does with memory that is freed, for the command line's own process."""

__all__ = ["keep_memory"]

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc's malloc.h
MOST = 2**31 - 1  # bytes of free memory at the end of the heap; more goes back


def keep_memory() -> bool:
    """Let glibc keep freed memory for what comes next; tell whether it does.

    By default it hands every block of more than 32 MB back, and the kernel clears fresh pages for the next one: a third of the
    time of a slice of 512 x 512 (docs/benchmarks.md). Nothing changes where the environment says what malloc should do, or
    the C library is another. For programs of our own only: it holds for the whole process.
    """
    if sys.platform != "linux" or any(
        name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ
    ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, MOST))
