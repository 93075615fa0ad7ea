"""Messages between processes that work together, through torch.distributed; for one process all this is free."""

__all__ = [
    "Shard",
    "all_true",
    "average",
    "average_gradients",
    "barrier",
    "broadcast_json",
    "broadcast_tensors",
    "by_first",
    "current_shard",
    "finish",
    "in_own_group",
    "listening",
    "of_all",
]

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn

from invkit.errors import ConfigError, InvkitError
from invkit.training.processes.board import Board, LostContactError


@dataclass(frozen=True)
class Shard:
    """Which part of a global batch is this process's."""

    rank: int = 0
    world: int = 1

    def slice(self, n: int) -> slice:
        """Return this process's part of a global batch of `n`.

        Raises:
            ConfigError: `n` does not divide evenly, so the mean of the parts' means is not the batch's mean.
        """
        if n % self.world:
            raise ConfigError(
                f"a batch of {n} cannot be shared evenly by {self.world} processes; make it a multiple"
            )
        part = n // self.world
        return slice(self.rank * part, (self.rank + 1) * part)


_board: ContextVar[Board | None] = ContextVar("board", default=None)


@contextmanager
def listening(board: Board) -> Iterator[None]:
    """Listen to a board, while waiting for messages, for what makes another process fail."""
    token = _board.set(board)
    try:
        yield
    finally:
        _board.reset(token)


def in_own_group() -> bool:
    """Tell whether this process is one of a group that invkit has opened, all of which do the same."""
    return _board.get() is not None


def current_shard() -> Shard:
    """Return rank and number of the processes that work together, or the whole where this one is alone."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return Shard()
    return Shard(distributed.get_rank(), distributed.get_world_size())


def average_gradients(parameters: Sequence[nn.Parameter], extra: Tensor) -> Tensor:
    """Average gradients over all processes in one flat message; return the average of `extra`, shape `(k,)`.

    A parameter without a gradient in one process counts as zero there; without one in any, it stays without.
    """
    if current_shard().world == 1:
        return extra
    dtype = torch.float32
    for parameter in parameters:
        dtype = torch.promote_types(dtype, parameter.dtype)
    present = torch.tensor([float(parameter.grad is not None) for parameter in parameters])
    parts = [extra, present.to(extra.device)]
    for parameter in parameters:
        parts.append(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
    flat = average(torch.cat([part.detach().reshape(-1).to(dtype) for part in parts]))
    sizes = [part.numel() for part in parts]
    averaged, somewhere, *gradients = torch.split(flat, sizes)
    for parameter, found, gradient in zip(parameters, somewhere.tolist(), gradients, strict=True):
        if parameter.grad is None and found:
            parameter.grad = torch.empty_like(parameter)
        if parameter.grad is not None:
            # Copied in place, so that the gradient keeps the memory layout of its parameter.
            parameter.grad.copy_(gradient.view(parameter.shape))
    return averaged.to(extra.dtype)


def average(values: Tensor) -> Tensor:
    """Return the mean of `values` over all processes."""
    world = current_shard().world
    if world > 1:
        values = values.contiguous()
        with _peers():
            finish(distributed.all_reduce(values, async_op=True), values)
        values = values / world
    return values


def of_all(mean: Tensor) -> Tensor:
    """Return the mean over the global batch of what is a mean over this process's part of it.

    For losses that are not linear in such a mean, as its logarithm is not. The gradient is that of this part, so that the
    average of the processes' gradients is the gradient of the whole batch.
    """
    if current_shard().world == 1:
        return mean
    own = mean.detach()
    return mean + (average(own.clone()) - own)


def by_first(write: Callable[[], object]) -> None:
    """Let rank 0 write what all need, while the others wait."""
    if current_shard().rank == 0:
        write()
    barrier()


def all_true(flag: bool, device: torch.device | str = "cpu") -> bool:
    """Tell whether `flag` holds in every process; all wait for each other here."""
    if current_shard().world == 1:
        return flag
    value = torch.tensor(int(flag), device=device)
    with _peers():
        least = distributed.ReduceOp.MIN
        finish(distributed.all_reduce(value, least, async_op=True), value)
    return bool(value.item())


def barrier() -> None:
    """Wait until all processes have come here.

    Raises:
        InvkitError: one of them failed; the error is of the type of its own.
        ResourceError: one of them is gone.
    """
    if current_shard().world > 1:
        with _peers():
            finish(distributed.barrier(async_op=True))


def broadcast_json(value: Any, device: torch.device | str = "cpu") -> Any:
    """Return rank 0's `value`, made of JSON values, in every process; what the others give is not looked at."""
    shard = current_shard()
    if shard.world == 1:
        return value
    data = json.dumps(value).encode() if shard.rank == 0 else b""
    with _peers():
        size = torch.tensor(len(data), device=device)
        finish(distributed.broadcast(size, 0, async_op=True), size)
        empty = torch.empty(int(size.item()), dtype=torch.uint8, device=device)
        sent = torch.frombuffer(bytearray(data), dtype=torch.uint8).to(device) if data else empty
        finish(distributed.broadcast(sent, 0, async_op=True), sent)
    return json.loads(sent.cpu().numpy().tobytes())


def broadcast_tensors(tensors: Iterable[Tensor]) -> None:
    """Overwrite the tensors with rank 0's in every process."""
    if current_shard().world == 1:
        return
    with _peers(), torch.no_grad():
        for tensor in tensors:
            received = tensor.detach().contiguous()
            finish(distributed.broadcast(received, 0, async_op=True), received)
            tensor.copy_(received)


def finish(work: Any, tensor: Tensor | None = None) -> None:
    """Wait for a message between processes, and meanwhile listen whether one of them has failed.

    Args:
        work: what torch returned for it.
        tensor: what is sent; on a GPU nothing waits here, the device's own queue does.
    """
    board = _board.get()
    if board is not None and not (tensor is not None and tensor.is_cuda):
        begun = time.monotonic()
        while not work.is_completed():
            # What is waited for is noticed late by a twentieth of the wait at most.
            time.sleep(max(5e-5, min(0.02, 0.05 * (time.monotonic() - begun))))
            board.listen()
    work.wait()


@contextmanager
def _peers() -> Iterator[None]:
    """Turn the failure of a message between processes into the error of the one that failed, or one of ours."""
    try:
        yield
    except InvkitError:
        raise
    except RuntimeError as error:
        board = _board.get()
        failure = None if board is None else board.failure()
        raise failure or LostContactError(
            f"lost contact with the other processes ({error}). "
            "Start all of them again: a training resumes from its last checkpoint"
        ) from error
