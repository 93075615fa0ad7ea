"""Several processes that train one model, through torch.distributed; for one process all this is free."""

__all__ = [
    "Shard",
    "all_true",
    "average",
    "average_gradients",
    "broadcast_json",
    "broadcast_tensors",
    "current_shard",
    "process_group",
]

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn

from invkit.errors import ConfigError, ResourceError


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


def current_shard() -> Shard:
    """Return rank and world size of the process group, or the whole where there is none."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return Shard()
    return Shard(distributed.get_rank(), distributed.get_world_size())


@contextmanager
def process_group(device: torch.device | str = "cpu", *, timeout: float = 1800.0) -> Iterator[Shard]:
    """Join the group that `torchrun` (or `srun` with the same variables) describes; without one, do nothing.

    Args:
        device: decides the backend, gloo or nccl.
        timeout: seconds after which a process that hears nothing from the others gives up.

    Raises:
        ResourceError: the others cannot be reached.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1 or not distributed.is_available() or distributed.is_initialized():
        yield current_shard()
        return
    backend = "nccl" if torch.device(device).type == "cuda" else "gloo"
    with _peers():
        distributed.init_process_group(backend, timeout=timedelta(seconds=timeout))
    try:
        yield current_shard()
    finally:
        distributed.destroy_process_group()


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
        with _peers():
            distributed.all_reduce(values)
        values = values / world
    return values


def all_true(flag: bool, device: torch.device | str = "cpu") -> bool:
    """Tell whether `flag` holds in every process; all wait for each other here."""
    if current_shard().world == 1:
        return flag
    value = torch.tensor(int(flag), device=device)
    with _peers():
        distributed.all_reduce(value, distributed.ReduceOp.MIN)
    return bool(value.item())


def broadcast_json(value: Any, device: torch.device | str = "cpu") -> Any:
    """Return rank 0's `value`, made of JSON values, in every process."""
    if current_shard().world == 1:
        return value
    data = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8).to(device)
    size = torch.tensor(data.numel(), device=device)
    with _peers():
        distributed.broadcast(size, src=0)
        if current_shard().rank != 0:
            data = torch.empty(int(size.item()), dtype=torch.uint8, device=device)
        distributed.broadcast(data, src=0)
    return json.loads(bytes(data.tolist()))


def broadcast_tensors(tensors: Iterable[Tensor]) -> None:
    """Overwrite the tensors with rank 0's in every process."""
    if current_shard().world == 1:
        return
    with _peers(), torch.no_grad():
        for tensor in tensors:
            received = tensor.detach().contiguous()
            distributed.broadcast(received, src=0)
            tensor.copy_(received)


@contextmanager
def _peers() -> Iterator[None]:
    """Turn the failure of a message between processes into an error of ours."""
    try:
        yield
    except RuntimeError as error:
        raise ResourceError(
            f"lost contact with the other processes of this training ({error}). "
            "Start all of them again: they go on from the last checkpoint"
        ) from error
