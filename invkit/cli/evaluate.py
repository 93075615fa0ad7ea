"""`invkit evaluate MODEL`: image quality on held-out slices."""

from __future__ import annotations

__all__ = ["register"]

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from invkit.cli.terminal.console import emit_json, emit_table, say
from invkit.cli.terminal.model import ChannelsOption, NormaliseOption, opened_model
from invkit.cli.terminal.options import JsonOption, ModelArgument, PluginOption
from invkit.cli.terminal.progress import TextProgress
from invkit.errors import UsageError

if TYPE_CHECKING:
    from invkit.data.slices import NoiseModel
    from invkit.quality.evaluate import Evaluation


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("evaluate")(evaluate)


def evaluate(
    model: ModelArgument = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            metavar="PATH",
            help="CT data, paired with low dose or full dose only; may be repeated. Default: phantoms.",
        ),
    ] = None,
    part: Annotated[str, typer.Option("--part", help="test, validation, train or all patients.")] = "test",
    window: Annotated[
        str,
        typer.Option(
            "--window", help="Display window: auto (by exam type), or C, L or N for chest, abdomen or head."
        ),
    ] = "auto",
    dose: Annotated[float, typer.Option("--dose", help="Dose fraction of simulated low-dose images.")] = 0.25,
    noise: Annotated[
        str,
        typer.Option(
            "--noise", help="Noise model: physical (in the projection domain) or image (stationary)."
        ),
    ] = "physical",
    seed: Annotated[int, typer.Option("--seed", help="Seed for all random numbers.")] = 0,
    table: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write the metrics of every slice.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or mps.")] = "cpu",
    normalise: NormaliseOption = None,
    channels: ChannelsOption = None,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Measure SSIM, PSNR, RMSE and VIF against full dose, before and after denoising, per exam type."""
    opened = opened_model(model, plugin, normalise, channels, device)
    if table is not None and table.exists():
        raise UsageError(f"{table} exists already. Choose another name; existing files are never overwritten")
    from invkit.artifacts import write_atomic
    from invkit.quality.evaluate import evaluate as run

    found = run(
        opened,
        data,
        part=part,
        window=window,
        dose=dose,
        noise=cast("NoiseModel", noise),
        seed=seed,
        device=device,
        progress=TextProgress(),
    )
    if table is not None:
        write_atomic(table, found.to_csv().encode())
    if json:
        emit_json("invkit.evaluate/1", found.to_json())
    else:
        show(found)


def show(found: Evaluation) -> None:
    """Print the table, and what it is made of."""
    from invkit.quality.benchmark import FIGURES

    rows = []
    for exam in found.exams:
        stated = exam.to_json()
        place = f"{exam.exam} ({stated['name']})" if exam.exam else stated["name"]
        for name in ("low_dose", "denoised", "change"):
            figures = getattr(exam, name)
            rows.append(
                (
                    place,
                    str(exam.patients),
                    str(exam.slices),
                    name.replace("_", " "),
                    *(figures[key].text(decimals=FIGURES[key].decimals) for key in FIGURES),
                )
            )
    emit_table(("exam", "patients", "slices", "image", *(figure.title for figure in FIGURES.values())), rows)
    say(f"{found.about['model']}.{found.about['weights']} on the {found.about['data']}")
    simulated = sum(exam.slices - exam.paired for exam in found.exams)
    if simulated:
        slices = sum(exam.slices for exam in found.exams)
        say(
            f"Low dose is simulated for {simulated} of {slices} slices, at {found.about['dose']} of their dose"
        )
    if any(exam.patients < found.enough for exam in found.exams):
        say(f"Intervals need {found.enough} patients per exam type")
