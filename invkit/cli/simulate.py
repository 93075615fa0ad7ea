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
        Path, typer.Argument(help="A DICOM file, folder or zip with one series, or a .npy file in HU.")
    ],
    dose: Annotated[float, typer.Option("--dose", help="Fraction of the original dose, e.g. 0.25.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Output folder for the slices.")],
    seed: Annotated[int, typer.Option("--seed", help="Seed of the noise.")] = 0,
    photons: Annotated[
        float | None,
        typer.Option(
            "--photons", help="Photons per unattenuated ray at full dose. Default: estimated from the noise."
        ),
    ] = None,
    electronic: Annotated[
        float | None,
        typer.Option(
            "--electronic", help="Standard deviation of the electronic noise, in photons. Default: 3.16."
        ),
    ] = None,
    kernel: Annotated[str, typer.Option("--kernel", help="Reconstruction kernel.")] = "standard",
    bowtie: Annotated[bool, typer.Option("--bowtie", help="Simulate a bowtie filter.")] = False,
    modulation: Annotated[
        bool, typer.Option("--modulation", help="Simulate tube current modulation over the rotation.")
    ] = False,
    spacing: Annotated[
        str | None,
        typer.Option(
            "--spacing", metavar="MM[,MM]", help="Row and column spacing, where the file does not state it."
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Number of processes. Default: one per core.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Simulate a whole series at a lower dose. Run again after an interruption, it resumes where it stopped."""
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
        emit_text(f"{done.folder}: {done.slices} slices at dose {dose:g}, {done.made} of them new")


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
            f"--spacing takes a distance in mm, or two such as 0.7,0.8 for rows and columns, got {text!r}"
        )
    return numbers[0], numbers[-1]
