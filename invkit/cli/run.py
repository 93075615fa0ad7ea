"""`invkit run`: the whole method in one resumable go, at the sizes of a file."""

from __future__ import annotations

__all__ = ["register"]

import json as json_text
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from invkit.cli.terminal.console import emit_json, emit_table, emit_text, say
from invkit.cli.terminal.options import JsonOption, PluginOption, host_with
from invkit.cli.terminal.progress import TextProgress

if TYPE_CHECKING:
    from invkit.workflow.run import Report, RunOutcome


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run")(run)


def run(
    config: Annotated[str, typer.Argument(help="A TOML file, or one of the built-in tiny, small and paper.")],
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="FIELD=VALUE", help="Override a field, such as vae.steps=100; may be repeated."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FOLDER", help="Folder of the run. Default: runs/CONFIG."),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or mps.")] = "cpu",
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Train denoisers, VAEs and cINNs, sample, and report. Run again, it resumes where it stopped."""
    host = host_with(plugin)
    from invkit.workflow.file import read_config
    from invkit.workflow.run import run as run_steps

    checked = read_config(config, change or ())
    folder = out or Path("runs") / Path(config).stem
    show(run_steps(checked, folder, device=device, host=host, progress=TextProgress(), say=say), json)


def show(outcome: RunOutcome, json: bool) -> None:
    """Print where everything is, and the main figures of every layer."""
    from invkit.statistics.intervals import Interval, number  # imports torch

    found = [(report, layer) for report in outcome.reports for layer in layers(report)]
    if json:
        rows = [{"model": report.model, "domain": report.domain, **layer} for report, layer in found]
        emit_json("invkit.run/1", {**places(outcome), "done": outcome.done, "layers": rows})
        return
    emit_table(
        ("denoiser", "domain", "layer", "spread HU", "fiber error", "input control", "spread of f HU"),
        [
            (
                report.model,
                report.domain,
                layer["key"],
                *(
                    number(Interval.of(figure).value)
                    for figure in (
                        layer["metrics"]["spread_hu"],
                        layer["metrics"]["fiber_error"]["samples"],
                        layer["metrics"]["fiber_error"]["input"],
                        layer["metrics"]["spread_f_hu"],
                    )
                ),
            )
            for report, layer in found
        ],
    )
    for report in outcome.reports:
        emit_text(str(report.path.resolve()))


def places(outcome: RunOutcome) -> dict[str, Any]:
    """Return absolute paths as JSON values."""
    return {
        "run": str(outcome.folder.resolve()),
        "manifest": str(outcome.manifest.resolve()),
        "reports": {
            domain: {
                report.model: str(report.path.resolve())
                for report in outcome.reports
                if report.domain == domain
            }
            for domain in dict.fromkeys(report.domain for report in outcome.reports)
        },
    }


def layers(report: Report) -> list[dict[str, Any]]:
    """Return what a report says of each layer."""
    described: list[dict[str, Any]] = json_text.loads(report.path.with_suffix(".json").read_bytes())["layers"]
    return described
