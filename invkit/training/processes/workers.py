"""Independent pieces of work side by side on a CPU: on so many small tensors one thread each does more than all on each."""

__all__ = ["side_by_side"]

import copy
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import local
from typing import TypeVar

import torch

T = TypeVar("T")
Own = TypeVar("Own")
MOST = 8  # workers: each takes memory for a copy and for the piece that it is at


def side_by_side(
    count: int, work: Callable[[int, Own], T], own: Own, *, device: torch.device | str = "cpu"
) -> Iterator[T]:
    """Yield `work(0, own)` to `work(count - 1, own)` in order; on a CPU as many at a time as torch has threads, up to 8.

    Each worker is a thread that has its share of torch's threads, and a deep copy of `own`: hooks, and whatever a network keeps
    while it runs, must not be shared. What cannot be copied is used as it is, and the pieces are then done one after the other,
    as they are on other devices. No more than twice as many pieces as there are workers are begun before their turn.

    Args:
        count: number of pieces.
        work: does one; all it uses besides `own` it only reads, or guards.
        own: what each worker needs for itself, `None` for nothing.
        device: where the work is done.
    """
    # Before any worker: a thread that has not asked yet would be given the number that a worker sets.
    threads = torch.get_num_threads()
    copies = _copies(own, min(threads, count, MOST)) if torch.device(device).type == "cpu" else []
    if len(copies) < 2:
        yield from (work(index, own) for index in range(count))
        return
    workers = len(copies)
    place = local()
    gradients = torch.is_grad_enabled()

    def begin() -> None:
        torch.set_num_threads(threads // workers)
        place.own = copies.pop()

    def piece(index: int) -> T:
        with torch.set_grad_enabled(gradients):
            return work(index, place.own)

    pool = ThreadPoolExecutor(workers, thread_name_prefix="invkit-worker", initializer=begin)
    try:
        waiting: deque[Future[T]] = deque()
        for index in range(count):
            if len(waiting) >= 2 * workers:
                yield waiting.popleft().result()
            waiting.append(pool.submit(piece, index))
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # for threads that begin later


def _copies(own: Own, count: int) -> list[Own]:
    """Return so many deep copies, or none where there can be none."""
    try:
        return [copy.deepcopy(own) for _ in range(count)]
    except Exception:  # a network may hold anything at all
        return []
