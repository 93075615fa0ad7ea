"""Seeds by counters: a random number depends on a seed and a path of names, not on other draws."""

__all__ = ["derive_seed", "generator", "seeded"]

import hashlib
import json
import operator
from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")


def derive_seed(seed: int, *path: int | str) -> int:
    """Return a 63-bit seed that depends on `seed` and on every part of `path`, and on nothing else.

    Two paths that differ anywhere (also `1` and `"1"`, `("ab",)` and `("a", "b")`) give unrelated
    seeds, so a step, an epoch or a worker more changes no other random number.

    Args:
        seed: the seed of the whole run, any integer.
        path: names and counters, e.g. `"patches", step`.
    """
    parts = [
        operator.index(seed),
        *(part if isinstance(part, str) else operator.index(part) for part in path),
    ]
    digest = hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *path: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a fresh generator on `device`, seeded with `derive_seed(seed, *path)`."""
    return torch.Generator(device=device).manual_seed(derive_seed(seed, *path))


def seeded(build: Callable[[], T], seed: int) -> T:
    """Return what `build` makes, initial weights by `seed` alone; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        # Only the CPU's generator: networks are initialised there, and no other state may change.
        torch.default_generator.manual_seed(seed)
        return build()
