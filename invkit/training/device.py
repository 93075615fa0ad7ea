"""The device that a computation is asked to run on."""

__all__ = ["usable_device"]

import torch

from invkit.errors import UsageError
from invkit.training.processes.launch import launched

KINDS = ("cpu", "cuda", "mps")


def usable_device(name: str) -> str:
    """Return a device that is there: `name`, or for `"cuda"` the GPU of this process where several share a machine.

    Args:
        name: `"cpu"`, `"cuda"`, `"cuda:1"` or `"mps"`.

    Raises:
        UsageError: there is no such device here; the message says which there are.
    """
    there = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }
    kind, _, index = name.partition(":")
    if kind not in there or (":" in name and not index.isdecimal()):
        raise UsageError(f"a device is one of {', '.join(KINDS)}, or cuda:1 for the second GPU; got {name!r}")
    if there[kind] <= int(index or 0):
        found = ", ".join(f"{count} x {kind}" for kind, count in there.items() if count)
        raise UsageError(f"there is no device {name!r} here, only {found}")
    if name == "cuda":
        launch = launched()
        return f"cuda:{(launch.local_rank if launch else 0) % there['cuda']}"
    return name
