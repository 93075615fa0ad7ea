"""The typer application: its commands, and what becomes of an error.

A command lives in a module of this folder with a function `register(app)`; the module stands in `COMMANDS`.
"""

from __future__ import annotations

__all__ = ["COMMANDS", "app", "main"]

import os
import traceback
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from invkit._version import __version__
from invkit.cli import (
    analyze,
    data,
    evaluate,
    layers,
    models,
    plugins,
    presets,
    run,
    train,
    validate,
)
from invkit.cli.terminal.console import data_on_stdout, emit_text, say, say_error
from invkit.cli.together import together
from invkit.errors import InvkitError
from invkit.plugins.manager import default_host
from invkit.training.processes import allocator

COMMANDS = (analyze, train, presets, run, data, evaluate, models, layers, plugins, validate)
COMMAND = "invkit.command"


class Commands(TyperGroup):
    """Runs a command and turns what it raises into a message and an exit code."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options before the command, and note which command it is."""
        rest: list[str] = super().parse_args(ctx, args)
        ctx.meta[COMMAND] = next(
            iter(ctx._protected_args), ""
        )  # what stands behind our own options and their values
        return rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command.

        Raises:
            typer.Exit: with the error's own exit code, 130 after Ctrl-C, 6 out of memory, 1 after a bug.
        """
        with data_on_stdout():
            try:
                return together(ctx.meta[COMMAND], partial(super().invoke, ctx))
            except InvkitError as error:
                say_error(str(error))
                if debugging():
                    say_traceback(error)
                raise typer.Exit(error.exit_code) from None
            except KeyboardInterrupt:
                say("stopped")
                raise typer.Exit(130) from None
            except MemoryError:
                say_error("out of memory. Use smaller images or fewer samples")
                raise typer.Exit(6) from None
            except (typer.Exit, typer.Abort, typer.TyperException, BrokenPipeError):
                raise
            except Exception as error:
                report_bug(error)
                raise typer.Exit(1) from None


def report_bug(error: Exception) -> None:
    """Say what happened without the error's message, which may quote pixels or a patient's attributes."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    say_error(
        f"this is a bug in invkit: {type(error).__name__} in {os.path.basename(last.filename)}:{last.lineno}"
    )
    if debugging():
        say_traceback(error)
    else:
        say("Run it again with INVKIT_DEBUG=1 for the traceback, and include that in your report")


def debugging() -> bool:
    """Return whether the user asks for tracebacks."""
    return os.environ.get("INVKIT_DEBUG") == "1"


def say_traceback(error: Exception) -> None:
    """Say where an error and its causes came from, without their messages."""
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    for raised in reversed(chain):
        say("".join(traceback.format_tb(raised.__traceback__)) + type(raised).__name__)


app = typer.Typer(
    cls=Commands,
    name="invkit",
    help="Show what an image denoiser ignores: split it at a layer and sample what that layer cannot see.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    add_completion=False,
)


def show_version(wanted: bool) -> None:
    """Print the version and end."""
    if wanted:
        emit_text(f"invkit {__version__}")
        raise typer.Exit()


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
    plugins_dir: Annotated[
        list[Path] | None,
        typer.Option(
            "--plugins-dir",
            metavar="FOLDER",
            help="Use the plugins of a folder, too, as INVKIT_PLUGINS does; may be repeated.",
        ),
    ] = None,
) -> None:
    """Take the options that stand before a command."""
    for folder in plugins_dir or ():
        default_host().add_folder(folder)


for command in COMMANDS:
    command.register(app)


def main() -> None:
    """Run the command line; the entry point of `invkit` and `python -m invkit`."""
    allocator.keep()
    app(prog_name="invkit")
