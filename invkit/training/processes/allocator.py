"""What glibc does with the memory of large tensors: kept for the next ones, where the process is a command's own."""

__all__ = ["TRIM", "c_function", "hand_back", "keep", "kept"]

import ctypes
import os
import sys
from typing import Any

# Parameters of mallopt, as malloc.h numbers them.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
MMAP_MAX = 65_536  # its default
MMAP_THRESHOLD = 2**25  # the highest that it moves this to by itself
SETTINGS = (
    "MALLOC_MMAP_MAX_",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_TOP_PAD_",
    "GLIBC_TUNABLES",
)
TRIM = 200_000_000  # free memory at the top of the heap above which it is handed back
# By how much more a process grows at its peak at most; measured on slices of 512 x 512: 100 MB, or 360 to 450 MB where samples are
# refined (docs/benchmarks.md)
KEPT = 450_000_000


class _State:
    kept = 0


def c_function(name: str) -> Any:
    """Return a function of the C library on Linux; `None` where there is none of that name."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def keep() -> None:
    """Let large tensors share one heap, and let it keep what they leave, up to 200 MB.

    Above 32 MB, which an activation of 32 channels has at 512 x 512 pixels, glibc maps fresh pages for each tensor and
    unmaps them with it; clearing them, with all threads waiting for the map of the process, takes up to half of a run. This
    changes the whole process, so only what owns it may call it: the command line does. Does nothing without glibc, or where
    the environment chose otherwise.
    """
    mallopt = c_function("mallopt")
    if mallopt is None or any(name in os.environ for name in SETTINGS):
        return
    if mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, TRIM):
        _State.kept = KEPT


def hand_back() -> None:
    """Undo `keep`, where memory is short."""
    if not _State.kept:
        return
    _State.kept = 0
    mallopt = c_function("mallopt")
    for name, value in (
        (M_MMAP_MAX, MMAP_MAX),
        (M_MMAP_THRESHOLD, MMAP_THRESHOLD),
        (M_TRIM_THRESHOLD, 2 * MMAP_THRESHOLD),
    ):
        mallopt(name, value)


def kept() -> int:
    """Return how many bytes large tensors leave behind at most in this process, besides those in use."""
    return _State.kept
