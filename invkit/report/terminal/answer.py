"""The answer in the terminal, on one screen: what hides, what becomes of the image, and whether to believe it."""

__all__ = ["print_answer"]

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from invkit.report.data import plain
from invkit.statistics.intervals import Interval, number, percent
from invkit.verdict.structures import MARKS

NOWHERE = "-"


def print_answer(
    described: Mapping[str, Any], console: Console | None = None, report: Path | None = None
) -> None:
    """Print what a reader needs first, on a screen of 80 columns and 24 rows for one layer; a row for each of several.

    Args:
        described: what `report.json` holds.
        console: where to print; standard output by default.
        report: path of the written report, named near the end.
    """
    console = console or Console()
    layers = described["layers"]
    one = layers[0] if len(layers) == 1 else None
    named = (
        ", ".join(layer["key"] for layer in layers)
        if one is None
        else f"{one['key']}{f' ({note})' if (note := one['note']) else ''}"
    )
    console.print(
        Text(plain(f"{described['model']}, layer{'' if one else 's'} {named}"), "bold"), highlight=False
    )
    console.print(Text(plain(described["image"]), "dim"))
    for warning in described["warnings"]:
        console.print(Text.assemble(("Warning: ", "bold yellow"), plain(warning)))
    console.print()
    for sentence in described["answer"]:
        console.print(Text(plain(sentence), "bold"))
    console.print()
    if one is None:
        console.print(
            "What hides, in HU; in brackets, what hides from the image itself at the same tolerance"
        )
        console.print(_layers(layers))
        console.print()
    elif one["metrics"].get("tolerance") is not None:
        _print_one(one["metrics"], console)
        console.print()
    if one is not None and one["conclusion"] is not None:
        console.print(Text(f"Trust: {plain('; '.join(_trust(one)))}", "dim"))
    if report is not None:
        # A path that is broken over two lines cannot be clicked or copied.
        console.print(Text.assemble(("Report: ", "bold"), plain(report)), soft_wrap=True)
    console.print(Text("All that was measured: the same command with --verbose", "dim"))


def _print_one(metrics: Mapping[str, Any], console: Console) -> None:
    """Print the figures of one layer: discs by size, then noise."""
    tolerance = metrics["tolerance"]
    mark = MARKS.get(tolerance["mark"], tolerance["mark"])
    console.print(Text(f"At {number(tolerance['value'])} repeat scans, {mark}:"))
    discs = _discs(metrics)
    if discs:
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_row("discs of diameter", *map(_diameter, discs))
        table.add_row("  hide below", *(f"{_value(row, 'hidden_hu')} HU" for row in discs))
        image = (f"{_value(row, 'identity_hidden_hu')} HU" for row in discs)
        table.add_row("  from the image itself", *image, style="dim")
        table.add_row(
            "  contrast that f keeps", *(percent(Interval.of(row["contrast_kept"]).value) for row in discs)
        )
        console.print(table)
    lines = Table(box=None, pad_edge=False, show_header=False)
    for label, text in _noise(metrics):
        lines.add_row(f"{label:<23}" if discs else label, text)
    console.print(lines)


def _noise(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    noise = metrics["noise"]
    dose = _value(noise, "in_hu")
    if noise.get("hidden_hu") is not None:
        itself = _value(noise, "identity_hidden_hu")
        yield (
            "noise that hides",
            f"{Interval.of(noise['hidden_hu']).text('HU')} of {dose} HU (image itself {itself})",
        )
    if noise.get("out_hu") is not None:
        yield "noise that f leaves", f"{Interval.of(noise['out_hu']).text('HU')} of {dose} HU"
    seen = (metrics.get("output") or {}).get("detectability_kept")
    if seen is not None:
        yield "detectability kept", f"{Interval.of(seen).text()} at the output, of 1"


def _layers(layers: Sequence[Mapping[str, Any]]) -> Table:
    """Return a row for each layer: what hides, and the verdict."""
    table = Table(box=None, pad_edge=False)
    table.add_column("layer")
    table.add_column("noise", justify="right")
    sizes = next((discs for layer in layers if (discs := _discs(layer["metrics"]))), [])
    shown = [sizes[0], sizes[-1]] if len(sizes) > 1 else sizes
    for row in shown:
        table.add_column(f"disc {_diameter(row)}", justify="right")
    table.add_column("beyond that", no_wrap=True)
    for layer in layers:
        noise = layer["metrics"].get("noise") or {}
        by_size = {row["radius_px"]: row for row in _discs(layer["metrics"])}
        cells = [layer["key"]]
        for found in (noise, *(by_size.get(row["radius_px"], {}) for row in shown)):
            cells.append(f"{_value(found, 'hidden_hu')} ({_value(found, 'identity_hidden_hu')})")
        table.add_row(*map(plain, cells), _found(layer["conclusion"]))
    return table


def _found(conclusion: Mapping[str, Any] | None) -> str:
    if conclusion is None:
        return "a control"
    if not conclusion["interpretable"]:
        return "not interpretable"
    found = [name for name, key in (("discs", "anatomy_found"), ("noise", "noise_found")) if conclusion[key]]
    return " and ".join(found) or "nothing"


def _trust(layer: Mapping[str, Any]) -> Iterator[str]:
    metrics, conclusion = layer["metrics"], layer["conclusion"]
    yield "yes" if conclusion["interpretable"] else "no"
    drawn = metrics.get("certified")
    if drawn:
        yield f"{drawn['count']} of {drawn['refined']} drawn images certified"
    if metrics.get("frame_px") is not None:
        yield f"a frame of {metrics['frame_px']} px is left out"
    if metrics.get("structures_window_px") is not None:
        rows, columns = metrics["structures_window_px"]
        yield f"measured in a window of {rows} x {columns} px"
    if (metrics.get("plausibility") or {}).get("inside"):
        yield "x is like the held-out images"
    yield "research use only"


def _discs(metrics: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the rows of discs at the lowest contrast in the first tissue, the smallest first."""
    rows = [row for row in metrics.get("structures") or () if row["kind"] == "disc"]
    if not rows:
        return []
    first = min(row["contrast_hu"] for row in rows), rows[0]["tissue"]
    return sorted(
        (row for row in rows if (row["contrast_hu"], row["tissue"]) == first),
        key=lambda row: row["radius_px"],
    )


def _diameter(row: Mapping[str, Any]) -> str:
    if row["radius_mm"] is None:
        return f"{number(2 * row['radius_px'])} px"
    return f"{2 * row['radius_mm']:.1f} mm"


def _value(found: Mapping[str, Any], key: str) -> str:
    value = found.get(key)
    return NOWHERE if value is None else number(Interval.of(value).value)
