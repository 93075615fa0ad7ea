"""Opening the group of processes that torchrun or srun have started, and closing it whatever happens."""

__all__ = ["process_group"]

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import distributed
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from invkit.errors import ResourceError
from invkit.training.processes.board import FAREWELL, Board, LostContactError
from invkit.training.processes.distributed import Shard, barrier, current_shard, listening
from invkit.training.processes.launch import Launch, launched

MEETING = 300.0  # seconds for all processes to come
TIMEOUT = 6 * 3600.0


@contextmanager
def process_group(*, timeout: float = TIMEOUT, meeting: float = MEETING) -> Iterator[Shard]:
    """Join the group that `torchrun` or `srun` describe; without one, do nothing.

    Within the block, trainings share each batch. All leave together. What makes one of them fail is raised in all of them, as an
    error of the same type.

    Args:
        timeout: seconds that one process may wait for another that is still alive. One that has died, or has said
            that it fails, is noticed at once.
        meeting: seconds within which all must have come.

    Raises:
        ConfigError: the variables that describe the group are malformed.
        ResourceError: the others cannot be reached, or one of them is gone.
        InvkitError: another process failed with it.
    """
    launch = launched()
    if launch is None or not distributed.is_available() or distributed.is_initialized():
        yield current_shard()
        return
    store = _meet(launch, timeout, meeting)
    board = Board(store, launch.rank, launch.world)
    shard, patience = Shard(launch.rank, launch.world), FAREWELL
    try:
        with listening(board):
            yield shard
            barrier()
    except BaseException as error:
        board.report(error)
        # One that is gone says no farewell.
        patience = 2.0 if isinstance(error, LostContactError) else FAREWELL
        raise
    finally:
        board.leave(patience)
        distributed.destroy_process_group()


def _meet(launch: Launch, timeout: float, meeting: float) -> Any:
    """Open the group and return its store."""
    # Figures and decisions go through gloo, gradients on a GPU through NCCL.
    backend = (
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and distributed.is_nccl_available() else "gloo"
    )
    try:
        patience = timedelta(seconds=meeting)
        store, rank, world = next(
            rendezvous(launch.url, rank=launch.rank, world_size=launch.world, timeout=patience)
        )
        if torch.cuda.is_available():
            torch.cuda.set_device(launch.local_rank % torch.cuda.device_count())
        distributed.init_process_group(
            backend,
            store=PrefixStore("group", store),
            rank=rank,
            world_size=world,
            timeout=timedelta(seconds=timeout),
        )
    except (RuntimeError, ValueError) as error:
        raise ResourceError(
            f"process {launch.rank} of {launch.world} cannot reach the others at {launch.url}: {error}. "
            "All of them must be started within "
            f"{meeting:.0f} s, and MASTER_ADDR and MASTER_PORT must be the same for all"
        ) from error
    return store
