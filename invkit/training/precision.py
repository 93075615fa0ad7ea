"""bfloat16 where it is measured to pay, float64 where it must be."""

__all__ = [
    "Precision",
    "autocast",
    "faster_precision",
    "in_float64",
    "mixed_precision",
    "precision_of_training",
    "sum_in_float64",
    "train_in",
]

import functools
import json
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from invkit import artifacts
from invkit.errors import ResourceError

Precision = Literal["float32", "bfloat16"]

# Batch, channels and side of the convolution that is timed. A GPU needs a large one to be busy at all.
SIZES = {"cpu": (8, 64, 16), "cuda": (32, 128, 64)}
ROUNDS = 4
# bfloat16 costs digits, so it has to be clearly faster: its time is at most this part of float32's.
WORTH = 0.8
HOPELESS = 2.0

_training: ContextVar[Precision] = ContextVar("precision", default="float32")


@contextmanager
def precision_of_training() -> Iterator[None]:
    """Let a training settle its precision by `train_in`; before that, and after the block, it is what it was."""
    token = _training.set("float32")
    try:
        yield
    finally:
        _training.reset(token)


def train_in(precision: Precision) -> None:
    """Settle the precision of the training that goes on, for `mixed_precision`."""
    _training.set(precision)


def mixed_precision(device: torch.device | str, enabled: bool = True) -> AbstractContextManager[None]:
    """Return a context in which matrix products and convolutions run in the precision of the training that goes on.

    Outside of a training, and with `enabled=False`, that is float32.
    """
    return autocast(device, enabled and _training.get() == "bfloat16")


def autocast(device: torch.device | str, enabled: bool) -> AbstractContextManager[None]:
    """Return a context in which matrix products and convolutions run in bfloat16; parameters stay in float32.

    With `enabled=False` it switches an outer autocast off, so that a map that must be exact stays in float32.
    """
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=enabled)


def faster_precision(device: torch.device | str) -> Precision:
    """Return the precision in which this machine trains convolutions faster; float32 where they are about equal.

    A convolution is timed forward and backward, once for each processor, version of torch and number of threads: the times are
    kept in the folder `precision` of the cache.
    """
    device = torch.device(device)
    if device.type not in SIZES:
        return "float32"
    float32, bfloat16 = _times(str(device), torch.get_num_threads())
    return "bfloat16" if bfloat16 <= WORTH * float32 else "float32"


@functools.cache
def _times(device: str, threads: int) -> tuple[float, float]:
    """Return the seconds in float32 and in bfloat16, from the cache or measured."""
    known = {"processor": _processor(device), "torch": torch.__version__, "threads": threads}
    path: Path | None = None
    with suppress(ResourceError, OSError, ValueError, KeyError, TypeError):
        path = artifacts.cache_folder() / "precision" / f"{artifacts.fingerprint(known)}.json"
        seconds = json.loads(path.read_text(encoding="utf-8"))["seconds"]
        return float(seconds["float32"]), float(seconds["bfloat16"])
    float32, bfloat16 = _measure(torch.device(device))
    if path is not None:
        found = {**known, "seconds": {"float32": float32, "bfloat16": bfloat16}}
        with suppress(ResourceError):
            artifacts.write_atomic(path, (json.dumps(found, indent=1) + "\n").encode())
    return float32, bfloat16


def _measure(device: torch.device) -> tuple[float, float]:
    """Time both in turn, and return the shortest times: what else the machine does only makes them longer."""
    ways = [_convolution(device, bf16) for bf16 in (False, True)]
    best = [float("inf"), float("inf")]
    for number in range(1 + ROUNDS):
        seconds = [_seconds(way, device) for way in ways]
        # The first round sets kernels up.
        if number:
            best = [min(pair) for pair in zip(best, seconds, strict=True)]
        if seconds[1] > HOPELESS * seconds[0] and number:
            break
    return best[0], best[1]


def _convolution(device: torch.device, bf16: bool) -> Callable[[], object]:
    """Return a convolution as trainings have it, forward and backward."""
    batch, channels, side = SIZES[device.type]

    def made(*shape: int) -> Tensor:
        values = torch.linspace(-1, 1, torch.Size(shape).numel(), device=device).reshape(shape)
        return values.to(memory_format=torch.channels_last).requires_grad_()

    x, weight = made(batch, channels, side, side), made(channels, channels, 3, 3)

    def run() -> object:
        with torch.enable_grad(), autocast(device, bf16):
            y = functional.conv2d(x, weight, padding=1)
        return torch.autograd.grad(y, (x, weight), torch.ones_like(y))

    return run


def _seconds(run: Callable[[], Any], device: torch.device) -> float:
    begun = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun


def _processor(device: str) -> str:
    """Return what tells one model of processor from another."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        first = dict(line.split("\t", 1) for line in text.partition("\n\n")[0].splitlines() if "\t" in line)
        names = ("model name", "cpu family", "model", "stepping")
        found = [value.strip(" :\t") for key, value in first.items() if key in names]
        if found:
            return " / ".join(found)
    return f"{platform.machine()} {platform.processor()}"


def in_float64(tensor: Tensor) -> Tensor:
    """Return a tensor in float64: where it is, or on the CPU if its device has no float64, as Apple's have none."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def sum_in_float64(tensor: Tensor, dim: int) -> Tensor:
    """Return the sum over one dimension in float64, where `in_float64` would be."""
    return (
        in_float64(tensor).sum(dim) if tensor.device.type == "mps" else tensor.sum(dim, dtype=torch.float64)
    )
