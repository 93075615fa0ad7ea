"""Training batches on their way to a device: on CUDA they are made and copied while it works at the batch before."""

__all__ = ["Feed", "to_device"]

from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

Key = TypeVar("Key", bound=Hashable)


def to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Return a tensor of the host on a device; to a GPU from pinned memory, so that the host does not wait for the copy."""
    device = torch.device(device)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class Feed(Generic[Key]):
    """The batches of a training by key, on its device.

    On CUDA one thread makes the batch that follows, pins it, and copies it on a stream of its own, while the device works at the
    one that was asked for. Elsewhere each batch is made when it is asked for. What comes out is the same, because a batch is a
    function of its key alone.

    Args:
        make: from a key to tensors in the host's memory; a pure function.
        device: where they go.

    Example:
        >>> feed = Feed(lambda step: (torch.full((2,), float(step)),), "cpu")
        >>> feed.batch(3, following=4)
        (tensor([3., 3.]),)
    """

    def __init__(self, make: Callable[[Key], Sequence[Tensor]], device: torch.device | str) -> None:
        self.make, self.device = make, torch.device(device)
        self._ahead: _Ahead[Key] | None = _Ahead(make, self.device) if self.device.type == "cuda" else None

    def batch(self, key: Key, *, following: Key | None = None) -> tuple[Tensor, ...]:
        """Return the tensors of a key on the device.

        Args:
            key: of the batch.
            following: of the one that will probably be asked for next. If another one is, it is made then.
        """
        if self._ahead is None:
            return tuple(tensor.to(self.device) for tensor in self.make(key))
        return self._ahead.batch(key, following)


class _Ahead(Generic[Key]):
    """A thread and a stream that are one batch ahead."""

    def __init__(self, make: Callable[[Key], Sequence[Tensor]], device: torch.device) -> None:
        self.make, self.device = make, device
        self.stream = torch.cuda.Stream(device)
        self.worker = ThreadPoolExecutor(1, thread_name_prefix="invkit-feed")
        self.pending: tuple[Key, Future[tuple[tuple[Tensor, ...], Any]]] | None = None

    def batch(self, key: Key, following: Key | None) -> tuple[Tensor, ...]:
        waiting, made = self.pending or (None, None)
        if made is None or waiting != key:
            made = self.worker.submit(self._send, key)
        tensors, copied = made.result()
        self.pending = None if following is None else (following, self.worker.submit(self._send, following))
        current = torch.cuda.current_stream(self.device)
        current.wait_event(copied)
        for tensor in tensors:
            # Else its memory could go to the next copy while the device still reads it.
            tensor.record_stream(current)
        return tensors

    def _send(self, key: Key) -> tuple[tuple[Tensor, ...], Any]:
        """Start the copy of a batch; return where it goes and the event of its end."""
        tensors = self.make(key)
        with torch.cuda.stream(self.stream):
            return tuple(to_device(tensor, self.device) for tensor in tensors), self.stream.record_event()
