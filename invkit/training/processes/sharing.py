"""Sharing work that falls into independent pieces over the processes of a group; for one process all this is free.

A piece comes out the same whichever process does it, so what comes of the whole does not depend on their number.
"""

__all__ = ["ShareDone", "alone", "first_only", "in_parts", "share_out", "spread_out"]

import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, TypeVar

import torch
from torch import distributed

from invkit.training.processes.distributed import (
    Scope,
    Shard,
    broadcast_bytes,
    current_scope,
    current_shard,
    go_on_alone,
    send_bytes,
    within,
)
from invkit.training.processes.workers import side_by_side

T = TypeVar("T")
Own = TypeVar("Own")


class ShareDone(Exception):
    """Says that this process has done its share, and that what comes of the whole is rank 0's.

    Raised by `share_out` in all processes but rank 0; the `share_out` around it, or `process_group`, ends the block.
    """


def alone() -> AbstractContextManager[None]:
    """Work as one process: what is done in the block is done by this one, without the others."""
    scope = current_scope()
    return nullcontext() if scope is None else within(scope.alone)


def share_out(
    count: int,
    work: Callable[[int], T],
    *,
    device: torch.device | str = "cpu",
    teams: bool = True,
    everywhere: bool = False,
) -> list[T]:
    """Return `work(0)` to `work(count - 1)`, each done by one process or team.

    Where there are fewer pieces than processes, `count` teams are made, and what is shared within a piece is shared
    by its team. Only processes of a group that invkit has opened share; else all is done here.

    The results are rank 0's, which goes on alone. One piece alone is done by all in step, and all go on.

    Args:
        count: number of pieces.
        work: does one, and returns what can be pickled; must need no other.
        device: where tensors of other processes' results go.
        teams: make teams; without them, processes that are left over do nothing.
        everywhere: give the results to all processes. They should be small.

    Raises:
        ShareDone: this is not rank 0, there are several pieces, and the results are not for everywhere.
        InvkitError: another process failed with it.
    """
    scope = current_scope()
    if scope is None or scope.shard.world == 1:
        return [work(index) for index in range(count)]
    if count == 1 and teams:
        return [work(0)]
    rank, world = scope.shard.rank, scope.shard.world
    parties = min(count, world)
    if parties == 0:
        return _delivered(scope, [], {}, device, everywhere)
    party = rank % parties
    inner = _team(scope, range(party, world, parties)) if teams else scope.alone
    idle = not teams and rank >= parties
    mine: dict[int, T] = {}
    for index in () if idle else range(party, count, parties):
        with suppress(ShareDone), within(inner):
            mine[index] = work(index)
        _listen(scope)
    return _delivered(scope, [index % parties for index in range(count)], mine, device, everywhere)


def first_only() -> None:
    """Let rank 0 go on alone.

    Raises:
        ShareDone: this is not rank 0.
    """
    if current_scope() is not None:
        if current_shard().rank != 0:
            raise ShareDone
        go_on_alone()


def in_parts(count: int, work: Callable[[int], T], *, device: torch.device | str = "cpu") -> Iterator[T]:
    """Yield `work(0)` to `work(count - 1)` in order and in all processes, each done by one of them.

    As many are in memory at a time as there are processes. All must take every one.

    Args:
        count: number of pieces.
        work: does one, and returns what can be pickled.
        device: where tensors of other processes' results go.
    """
    scope = current_scope()
    if scope is None or scope.shard.world == 1:
        yield from map(work, range(count))
        return
    rank, world = scope.shard.rank, scope.shard.world
    for start in range(0, count, world):
        packed = b""
        if start + rank < count:
            with within(scope.alone):
                mine = work(start + rank)
            packed = _packed(mine)
            _listen(scope)
        for source in range(min(world, count - start)):
            data = broadcast_bytes(packed, source=source)
            yield mine if source == rank else _unpacked(data, device)


def spread_out(
    count: int, work: Callable[[int, Own], T], own: Own, *, device: torch.device | str = "cpu"
) -> Iterator[T]:
    """Yield `work(0, own)` to `work(count - 1, own)` in order, as `in_parts` in a group of processes, else `side_by_side`.

    Args:
        count: number of pieces.
        work: does one, and returns what can be pickled.
        own: what each that works needs for itself.
        device: where the work is done.
    """
    scope = current_scope()
    if scope is None or scope.shard.world == 1:
        yield from side_by_side(count, work, own, device=device)
    else:
        yield from in_parts(count, lambda index: work(index, own), device=device)


def _delivered(
    scope: Scope, sources: list[int], mine: dict[int, T], device: torch.device | str, everywhere: bool
) -> list[T]:
    """Hand the results over, one after the other."""
    results: list[T] = []
    for index, source in enumerate(sources):
        packed = _packed(mine[index]) if source == scope.shard.rank and index in mine else b""
        data = broadcast_bytes(packed, source=source) if everywhere else send_bytes(packed, source=source)
        if data is not None:
            results.append(mine[index] if index in mine else _unpacked(data, device))
    if not everywhere:
        first_only()
    return results


def _listen(scope: Scope) -> None:
    if scope.board is not None:
        scope.board.listen()


def _team(scope: Scope, members: range) -> Scope:
    """Return the scope of some processes of another, to which this one belongs."""
    if len(members) == 1:
        return scope.alone
    ranks = tuple(scope.ranks[member] for member in members)
    # Only the members make it: the other teams may be at something else.
    group = distributed.new_group(list(ranks), use_local_synchronization=True)
    return Scope(Shard(members.index(scope.shard.rank), len(members)), ranks, group, scope.board)


def _packed(result: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(result, buffer)
    return buffer.getvalue()


def _unpacked(data: bytes, device: torch.device | str) -> Any:
    # From a process of this group, which runs this very program: not from a stranger.
    return torch.load(io.BytesIO(data), map_location=device, weights_only=False)
