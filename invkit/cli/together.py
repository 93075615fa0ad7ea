"""A command that torchrun or srun have started several times over: who does what, and who prints."""

from __future__ import annotations

__all__ = ["together"]

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import typer

from invkit.cli.terminal.console import data_to, say_error
from invkit.errors import InvkitError
from invkit.training.processes.launch import launched

# What shares its work. Any other command is done by the first process, and the others wait for it.
SHARED = frozenset({"run", "train"})


def together(command: str, work: Callable[[], Any]) -> Any:
    """Return `work()`, done by all processes of a group if there is one; only the first one prints.

    Raises:
        typer.Exit: in the other processes, where any failed: with the exit code that the first one ends with too.
        InvkitError: what any of the processes met.
    """
    launch = launched()
    if launch is None:
        return work()
    from invkit.training.processes.board import LostContactError
    from invkit.training.processes.group import process_group
    from invkit.training.processes.sharing import alone

    def mine() -> Any:
        if command in SHARED:
            return work()
        with alone():
            return work() if launch.rank == 0 else None

    ended = None  # where the block of a process ends early, for the rest is the first one's
    if launch.rank == 0:
        with process_group():
            ended = ending(mine)
    else:
        try:
            with silence(), process_group():
                ended = ending(mine)
        except typer.TyperException as error:
            raise typer.Exit(error.exit_code) from None
        except LostContactError as error:
            # The first process may be the one that is gone.
            say_error(f"process {launch.rank}: {error}")
            raise typer.Exit(error.exit_code) from None
        except InvkitError as error:
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
    if isinstance(ended, typer.Exit):
        raise ended
    return ended


def ending(work: Callable[[], Any]) -> Any:
    """Return `work()`, or what it ends the command with where that is no failure, as `--help` does."""
    try:
        return work()
    except typer.Exit as error:
        if error.exit_code:
            raise
        return error


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Print nothing of what the first process prints too, unless INVKIT_DEBUG=1."""
    if os.environ.get("INVKIT_DEBUG") == "1":
        yield
        return
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
        data_to(nowhere),
    ):
        yield
