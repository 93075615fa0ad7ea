"""A command that torchrun or srun have started several times over: who does what, and who prints."""

from __future__ import annotations

__all__ = ["require_shared_out", "together"]

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

from invkit.cli.terminal.console import data_to, say_error
from invkit.errors import InvkitError, UsageError
from invkit.training.processes.launch import Launch, launched

GROUPED = frozenset({"train"})  # all processes share each batch of one training
TAKING_ITEMS = frozenset({"analyze", "run"})  # each takes whole items from one folder
# All others are the first process's alone.


def together(command: str, work: Callable[[], Any]) -> Any:
    """Return `work()`; of several processes only the first one prints, but for what fails in another one.

    Raises:
        typer.Exit: in the other processes, with the exit code of what failed.
        InvkitError: what this process met, or, where they depend on each other, another one.
    """
    launch = launched()
    if launch is None:
        return work()
    grouped = command in GROUPED
    if launch.rank == 0:
        return _in_group(work) if grouped else work()
    if not grouped and command not in TAKING_ITEMS:
        return None
    try:
        with silence():
            return _in_group(work) if grouped else work()
    except typer.TyperException as error:
        raise typer.Exit(error.exit_code) from None
    except InvkitError as error:
        _tell(launch, error)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def require_shared_out(out: Path | None) -> None:
    """Refuse several processes that would each make a folder of its own.

    Raises:
        UsageError: they would.
    """
    if out is None and launched() is not None:
        raise UsageError("several processes work in one folder: name it with --out")


def _in_group(work: Callable[[], Any]) -> Any:
    """Return `work()`, done by all processes of a group."""
    from invkit.training.processes.group import process_group

    with process_group():
        ended = _ending(work)
    if isinstance(ended, typer.Exit):
        raise ended
    return ended


def _ending(work: Callable[[], Any]) -> Any:
    """Return `work()`, or what it ends the command with where that is no failure, as `--help` does."""
    try:
        return work()
    except typer.Exit as error:
        if error.exit_code:
            raise
        return error


def _tell(launch: Launch, error: InvkitError) -> None:
    """Print what the first process does not know, or not yet: what failed here, or that it is the one that is gone."""
    from invkit.training.processes.board import LostContactError

    where = getattr(error, "__notes__", [])
    if where or isinstance(error, LostContactError):
        say_error(f"{' '.join([f'process {launch.rank}', *where])}: {error}")


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
