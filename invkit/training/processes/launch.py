"""What torchrun or srun say of this process: which of how many it is, and where the first one listens. Without torch."""

__all__ = ["Launch", "launched"]

import os
from collections.abc import Mapping
from dataclasses import dataclass

from invkit.errors import ConfigError

PORT = 29500  # torchrun's own default


@dataclass(frozen=True)
class Launch:
    """One process of several.

    Args:
        rank: which it is, 0 and up.
        world: how many there are.
        local_rank: which it is on its machine; decides its GPU.
        url: where they meet: `env://` for torchrun, which has opened the place itself, else `tcp://` of rank 0.
    """

    rank: int
    world: int
    local_rank: int
    url: str


def launched(environment: Mapping[str, str] | None = None) -> Launch | None:
    """Return this process's place among those that were started with it; `None` where it is the only one.

    torchrun sets RANK, WORLD_SIZE and LOCAL_RANK. srun sets SLURM_PROCID, SLURM_NTASKS and SLURM_LOCALID; there,
    MASTER_ADDR has to be exported as the host of the first task, and says that the tasks belong together.

    Raises:
        ConfigError: a variable is missing or is no such number.
    """
    found = os.environ if environment is None else environment
    if "RANK" in found and "WORLD_SIZE" in found:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    elif "SLURM_PROCID" in found and "SLURM_NTASKS" in found and "MASTER_ADDR" in found:
        names = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")
    else:
        return None
    rank, world, local = (_number(found, name) for name in names)
    if world == 1:
        return None
    if rank >= world:
        raise ConfigError(f"{names[0]} is {rank}, but {names[1]} is {world}; it must be less")
    if names[0] == "RANK" and "MASTER_ADDR" in found and "MASTER_PORT" in found:
        return Launch(rank, world, local, "env://")
    if "MASTER_ADDR" not in found:
        raise ConfigError(f"{names[1]} is {world}, but MASTER_ADDR is not set: start with torchrun or srun")
    port = _number(found, "MASTER_PORT") if "MASTER_PORT" in found else PORT
    return Launch(rank, world, local, f"tcp://{found['MASTER_ADDR']}:{port}")


def _number(found: Mapping[str, str], name: str) -> int:
    text = found.get(name, "0")
    if not text.isdecimal():
        raise ConfigError(f"{name} is {text!r}; it must be a whole number")
    return int(text)
