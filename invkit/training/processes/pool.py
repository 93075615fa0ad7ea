"""Calls of one function in several processes, a bounded number at a time."""

__all__ = ["in_processes"]

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, TypeVar

from invkit.errors import ResourceError

# Not forked: a copy of a process whose other threads hold locks, as torch's, can hang.
START = "spawn"
Result = TypeVar("Result")


def in_processes(
    work: Callable[..., Result], calls: Sequence[tuple[Any, ...]], workers: int
) -> Iterator[Result]:
    """Yield what `work` returns for each call, in the order in which they are done.

    Args:
        work: a function of a module; it goes to the other processes by its name.
        calls: the arguments of each call.
        workers: processes; with one, everything happens in this process.

    Raises:
        ResourceError: a process was killed.
    """
    if min(workers, len(calls)) < 2:
        for call in calls:
            yield work(*call)
        return
    context = multiprocessing.get_context(START)
    waiting = iter(calls)
    pool = ProcessPoolExecutor(min(workers, len(calls)), mp_context=context, initializer=_prepare_worker)
    running: set[Future[Result]] = set()
    try:
        while True:
            for call in islice(waiting, 2 * workers - len(running)):
                running.add(pool.submit(work, *call))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    except BrokenProcessPool:
        raise ResourceError(
            "a worker was killed, probably for lack of memory. Use fewer --workers; finished work is kept"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _prepare_worker() -> None:
    """Leave Ctrl-C to the process that began this one, and end with it, however that one ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
