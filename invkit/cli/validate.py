"""`invkit validate`: every claim that has a truth in closed form, measured on this machine."""

from __future__ import annotations

__all__ = ["register"]

from typing import TYPE_CHECKING, Annotated

import typer

from invkit.cli.terminal.console import emit_json, emit_table, say
from invkit.cli.terminal.options import JsonOption
from invkit.cli.terminal.progress import TextProgress
from invkit.errors import CheckFailedError

if TYPE_CHECKING:
    from invkit.validate.check import Validation


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("validate")(validate)


def validate(
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="ID", help="ID of a row, or a prefix of several; may be repeated."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed for all random numbers.")] = 0,
    json: JsonOption = False,
) -> None:
    """Check flow, samples and certificates against denoisers whose invariances are known in closed form."""
    from invkit.validate.check import validate as run  # imports torch

    found = run(only or (), seed=seed, progress=TextProgress())
    if json:
        emit_json("invkit.validate/1", found.to_json())
    else:
        show(found)
    if found.failed:
        raise CheckFailedError(
            f"{len(found.failed)} of {len(found.rows)} rows do not hold: {', '.join(found.failed)}. "
            "Do not trust results of this installation; report this table with the output of `invkit --version`"
        )


def show(found: Validation) -> None:
    """Print the table."""
    from invkit.statistics.intervals import number  # imports torch

    emit_table(
        ("id", "measure", "value", "bound", "holds"),
        [
            (
                row.id,
                row.measure,
                number(row.value),
                f"{row.relation} {number(row.bound)}",
                "yes" if row.holds else "NO",
            )
            for row in found.rows
        ],
    )
    say(f"seed {found.seed}, {sum(found.seconds.values()):.0f} s")
