"""`invkit data simulate`: a series at a lower dose."""

from __future__ import annotations

__all__ = ["register"]

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from invkit.cli.terminal.console import emit_json, emit_text
from invkit.cli.terminal.options import JsonOption
from invkit.cli.terminal.progress import TextProgress
from invkit.errors import UsageError


def register(group: typer.Typer) -> None:
    """Add the command to the group `data`."""
    group.command("simulate")(simulate)


def simulate(
    source: Annotated[
        Path, typer.Argument(help="A DICOM file, folder or zip with one series, or .npy in HU.")
    ],
    dose: Annotated[float, typer.Option("--dose", help="Fraction of the source's own dose, e.g. 0.25.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the slices are written.")],
    seed: Annotated[int, typer.Option("--seed", help="Decides the noise.")] = 0,
    photons: Annotated[
        float | None,
        typer.Option("--photons", help="Per unattenuated ray at full dose. Default: read from the noise."),
    ] = None,
    electronic: Annotated[
        float | None,
        typer.Option("--electronic", help="Standard deviation of electronic noise, photons. Default: 3.16."),
    ] = None,
    kernel: Annotated[str, typer.Option("--kernel", help="Reconstruction kernel.")] = "standard",
    bowtie: Annotated[bool, typer.Option("--bowtie", help="Put a bowtie filter into the beam.")] = False,
    modulation: Annotated[
        bool, typer.Option("--modulation", help="Modulate the tube current over the rotation.")
    ] = False,
    spacing: Annotated[
        str | None,
        typer.Option("--spacing", metavar="MM[,MM]", help="Distance of rows and columns, where not stated."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Processes. Default: one per core.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Simulate a lower dose of a whole series. Called again after an interruption, it goes on where it stopped."""
    from invkit.data.dose.physics import ELECTRONIC
    from invkit.workflow.simulate import DoseSettings, simulate_series

    level = ELECTRONIC if electronic is None else electronic
    settings = DoseSettings(dose, seed, photons, level, kernel, bowtie, modulation)
    done = simulate_series(
        source, out, settings, spacing=chosen_spacing(spacing), workers=workers, progress=TextProgress()
    )
    if json:
        values = asdict(done) | {"folder": str(done.folder), "settings": asdict(settings)}
        emit_json("invkit.simulate/1", values)
    else:
        emit_text(f"{done.folder}: {done.slices} slices at dose {dose:g}, {done.made} of them made now")


def chosen_spacing(text: str | None) -> tuple[float, float] | None:
    """Return the spacing that was given: one number for both directions, or rows and columns.

    Raises:
        UsageError: it is neither.
    """
    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2):
        raise UsageError(
            f"--spacing is a distance in mm, or two as 0.7,0.8 for rows and columns, got {text!r}"
        )
    return numbers[0], numbers[-1]
