"""`invkit data`: what CT is there, and a cache of it to train on."""

from __future__ import annotations

__all__ = ["register"]

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from invkit.cli import simulate
from invkit.cli.terminal.console import emit_json, emit_table, emit_text
from invkit.cli.terminal.options import JsonOption
from invkit.cli.terminal.progress import TextProgress
from invkit.errors import UsageError

if TYPE_CHECKING:
    from invkit.data.prepare.prepare import Prepared

PathsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PATH]...",
        help="Folder or file, or FULL,LOW for a pair; `ldct`, or nothing, for the folder in LDCTBENCH_DATAFOLDER.",
    ),
]
SlopeOption = Annotated[
    float | None,
    typer.Option("--slope", help="Rescale Slope for DICOM files that lack one; needs --intercept."),
]
InterceptOption = Annotated[
    float | None,
    typer.Option("--intercept", help="Rescale Intercept for DICOM files that lack one; needs --slope."),
]
EXAMPLES = 3


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(
        help="Scan CT data, prepare them for training, simulate a lower dose.", no_args_is_help=True
    )
    group.command("scan")(scan)
    group.command("prepare")(prepare)
    simulate.register(group)
    app.add_typer(group, name="data")


def scan(
    paths: PathsArgument = None,
    slope: SlopeOption = None,
    intercept: InterceptOption = None,
    json: JsonOption = False,
) -> None:
    """List the CT data under a path: patients, series, doses, pairs, gaps, and what was skipped and why."""
    from invkit.data.prepare import scan as scans

    report = scans.scan(paths or (), rescale=stated_rescale(slope, intercept)).describe()
    if json:
        emit_json(scans.SCHEMA, report)
    else:
        _print_scan(report)


def prepare(
    paths: PathsArgument = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="CACHE", help="Cache folder (required).")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            help="Number of processes. Default: as many as the work justifies, at most one per core.",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            help="hash-rank or ldct-benchmark. Default: that of the cache; hash-rank for a new one.",
        ),
    ] = None,
    slope: SlopeOption = None,
    intercept: InterceptOption = None,
    json: JsonOption = False,
) -> None:
    """Build or update a memory-mapped cache for training. Run again, it resumes."""
    if out is None:
        raise UsageError("give the cache folder with --out")
    from invkit.data.prepare import prepare as preparing

    done = preparing.prepare(
        paths or (),
        out,
        workers=workers,
        split=split,
        rescale=stated_rescale(slope, intercept),
        progress=TextProgress(),
    )
    if json:
        emit_json(preparing.SCHEMA, done.describe())
    else:
        _print_prepared(done)


def stated_rescale(slope: float | None, intercept: float | None) -> tuple[float, float] | None:
    """Return the rescale that the user states, if any.

    Raises:
        UsageError: only one of the two is given.
    """
    if slope is None and intercept is None:
        return None
    if slope is None or intercept is None:
        raise UsageError("give --slope and --intercept together, such as --slope 1 --intercept -1024")
    return slope, intercept


def _print_scan(report: dict[str, Any]) -> None:
    from invkit.statistics.intervals import number  # imports torch

    emit_table(
        ("series", "patient", "exam", "dose", "partner", "slices", "size", "spacing", "step", "kernel"),
        [
            (
                row["name"],
                row["patient"],
                row["exam"],
                row["dose"] if row["fraction"] is None else f"{row['dose']} ({row['fraction']:g})",
                row["partner"] or "-",
                str(row["slices"]),
                " x ".join(map(str, row["size"])),
                " x ".join(number(side) for side in row["spacing"]) + " mm" if row["spacing"] else "-",
                "-" if row["step"] is None else f"{number(row['step'])} mm",
                row["kernel"] or "-",
            )
            for row in report["details"]
        ],
    )
    doses = report["doses"]
    emit_text(
        f"{report['patients']} patients, {report['series']} series, {report['slices']} slices: {doses['full']} at full "
        f"dose, {doses['low']} at low dose, {report['pairs']} pairs"
    )
    for gap in report["gaps"]:
        emit_text(
            f"gap: {gap['series']} of {gap['patient']} is missing {gap['missing']} between {gap['start']:g} and {gap['stop']:g} mm"
        )
    files: dict[str, list[str]] = {}
    for skip in report["skipped"]:
        files.setdefault(skip["reason"], []).append(skip["file"])
    for reason, names in files.items():
        more = ", ..." if len(names) > EXAMPLES else ""
        emit_text(f"skipped, {len(names)} x: {reason} ({', '.join(names[:EXAMPLES])}{more})")


def _print_prepared(done: Prepared) -> None:
    from invkit.statistics.intervals import number  # imports torch

    emit_text(str(done.folder.resolve()))
    emit_text(
        f"{done.patients} patients, {done.slices} slices, {done.pairs} of them with a low-dose partner, "
        f"{number(done.bytes / 1e9)} GB; {done.written} shards written, {done.kept} kept, {done.removed} removed"
    )
    shares = ", ".join(f"{count} {part}" for part, count in done.parts.items())
    emit_text(f"split {done.split[:12]} by {done.rule}: {shares} patients")
    for part in (part for part, count in done.parts.items() if not count):
        emit_text(f"the {part} part has no patients: training needs more patients")
    for reason, count in Counter(done.skipped).most_common():
        emit_text(f"skipped, {count} x: {reason}")
