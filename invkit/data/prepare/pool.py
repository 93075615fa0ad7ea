"""Shards made in several processes, a bounded number at a time."""

__all__ = ["in_processes"]

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path

from invkit.data.cache.files import Record
from invkit.data.prepare.shard import Block, make_shard
from invkit.errors import ResourceError

# Not forked: a copy of a process whose other threads hold locks, as torch's, can hang.
START = "spawn"


def in_processes(
    blocks: Sequence[Block], folder: Path, known: Mapping[str, Record], workers: int
) -> Iterator[tuple[Record, bool]]:
    """Yield what `make_shard` returns for each block, in the order in which they are done.

    Args:
        blocks: what is to be made.
        folder: the cache.
        known: records so far, by key.
        workers: processes; with one, everything happens in this process.

    Raises:
        ResourceError: a shard cannot be written, or a process was killed.
    """
    if workers == 1 or len(blocks) < 2:
        for block in blocks:
            yield make_shard(block, folder, known.get(block.key))
        return
    context = multiprocessing.get_context(START)
    waiting = iter(blocks)
    pool = ProcessPoolExecutor(min(workers, len(blocks)), mp_context=context, initializer=_prepare_worker)
    running: set[Future[tuple[Record, bool]]] = set()
    try:
        while True:
            for block in islice(waiting, 2 * workers - len(running)):
                running.add(pool.submit(make_shard, block, folder, known.get(block.key)))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    except BrokenProcessPool:
        raise ResourceError(
            "a worker was killed, probably for its memory. Give fewer --workers; what is done is kept"
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
