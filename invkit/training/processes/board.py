"""Where a process that fails tells the others why, so that all of them end with the same error."""

__all__ = ["Board", "LostContactError"]

import json
import time
from typing import Any

from torch.distributed.distributed_c10d import PrefixStore

from invkit.errors import InvkitError, ResourceError
from invkit.training.processes.failure import described, rebuilt

FAILURE, LEFT, GONE = "failure", "left", "gone"
LISTEN = 0.25  # seconds between looks at the board of a process that waits
FAREWELL = 20.0  # seconds for which a process waits for the others to have read the board


class LostContactError(ResourceError):
    """Another process has disappeared without a message."""


class Board:
    """Key-value store of a group of processes that the first failure is written to.

    Args:
        store: the group's own, alive as long as any process may look.
        rank: of this process.
        world: how many there are.
    """

    def __init__(self, store: Any, rank: int, world: int) -> None:
        self._store = PrefixStore("board", store)
        self._rank, self._world = rank, world
        self._looked = 0.0

    def report(self, error: BaseException) -> bool:
        """Write why this process fails; return whether it is the first. What was written stays."""
        told = json.dumps({"rank": self._rank, **described(error)})
        try:
            return self._store.compare_set(FAILURE, "", told).decode() == told
        except RuntimeError:
            return True  # the store is gone, with whoever would have read it

    def failure(self) -> InvkitError | None:
        """Return what made another process fail, as an error of the same type; `None` while none has failed."""
        try:
            if not self._store.check([FAILURE]):
                return None
            found = json.loads(self._store.get(FAILURE))
        except RuntimeError as error:
            return LostContactError(f"lost contact with the first process ({error})")
        return rebuilt(found, f"process {found['rank']}") if found["rank"] != self._rank else None

    def listen(self) -> None:
        """Raise what made another process fail; look no oftener than four times a second.

        Raises:
            InvkitError: what the other one met.
        """
        now = time.monotonic()
        if now - self._looked >= LISTEN:
            self._looked = now
            failure = self.failure()
            if failure is not None:
                raise failure

    def leave(self, patience: float = FAREWELL) -> None:
        """Say that this process looks no more, and wait some seconds for the others to say so: they may still be reading.

        The first process, which keeps the board, goes last.
        """
        try:
            self._wait(LEFT, patience)
            if self._rank == 0:
                self._wait(GONE, patience)
            else:
                self._store.add(GONE, 1)
        except RuntimeError:
            return

    def _wait(self, name: str, patience: float) -> None:
        """Count up, and wait until all have."""
        until = time.monotonic() + patience
        count = self._store.add(name, 1)
        while count < self._world and time.monotonic() < until:
            time.sleep(0.02)
            count = self._store.add(name, 0)
