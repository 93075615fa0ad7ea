"""What f does to noise, sharpness and detectability, whatever the layer: one plot and one table."""

__all__ = ["output_figure", "output_tables"]

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from invkit.report.theme import Theme, label
from invkit.report.variation import VariationTable
from invkit.statistics.intervals import Interval, number

WIDTH, HEIGHT = 9.2, 3.5


def output_figure(title: str, metrics: Mapping[str, Any], theme: Theme) -> Figure | None:
    """Return noise power, task transfer and detectability side by side; `None` where the output was not measured.

    Args:
        title: of the figure.
        metrics: figures under the keys of `invkit analyze --json`.
        theme: its look.
    """
    found = metrics.get("output")
    if not found:
        return None
    figure = Figure(figsize=(WIDTH, HEIGHT))
    figure.text(0.014, 1 - 0.13 / HEIGHT, label(title), size=12, weight="bold", va="top", parse_math=False)
    panels = [
        figure.add_axes((0.075 + 0.325 * index, 0.62 / HEIGHT, 0.25, 1 - 1.5 / HEIGHT)) for index in range(3)
    ]
    spacing = found["spacing_mm"]
    unit, length = ("px", 1.0) if spacing is None else ("mm", float(spacing))
    _noise(panels[0], found["noise"], unit, length, theme)
    _transfer(panels[1], found, unit, length, theme)
    _detected(panels[2], found["observer"], theme)
    for axes in panels:
        axes.set_axisbelow(True)
        axes.grid(axis="y")
    return figure


def output_tables(metrics: Mapping[str, Any]) -> list[VariationTable]:
    """Return the table of what an observer of f detects; none where the output was not measured.

    Args:
        metrics: figures under the keys of `invkit analyze --json`.
    """
    found = metrics.get("output")
    if not found:
        return []
    rows = tuple(
        (
            number(row["radius_px"])
            + ("" if row["radius_mm"] is None else f" ({number(row['radius_mm'])} mm)"),
            number(row["contrast_hu"]),
            *(
                Interval.of(row[f"{name}detectability{kept}"]).text()
                for name, kept in (("in_", ""), ("out_", ""), ("", "_kept"))
            ),
        )
        for row in found["observer"]
    )
    return [
        VariationTable(
            f"At the output: detectability d' of discs in {found['tissue']} for a channelised Hotelling observer, over "
            f"{found['places']} places in {found['scans']} scans each",
            ("Radius", "Contrast, HU", "Of the image", "Of f", "Kept"),
            rows,
        )
    ]


def _noise(axes: Axes, noise: Mapping[str, Any], unit: str, length: float, theme: Theme) -> None:
    frequencies = [frequency / length for frequency in noise["frequencies_per_px"]]
    for name, colour, text in (("in", theme.muted, "image"), ("out", theme.series[0], "f")):
        deviation = number(Interval.of(noise[f"{name}_hu"]).value)
        power = [value * length**2 for value in noise[f"{name}_power"]]
        axes.plot(frequencies, power, color=colour, lw=1.8, label=f"{text}: {deviation} HU")
    axes.set_ylim(0, None)
    axes.set_xlim(0, 0.5 / length)
    _dress(axes, f"Noise power, HU² {unit}²", f"Cycles per {unit}")


def _transfer(axes: Axes, found: Mapping[str, Any], unit: str, length: float, theme: Theme) -> None:
    frequencies = [frequency / length for frequency in found["frequencies_per_px"]]
    low, high = found["ttf_low"], found["ttf_high"]
    for curve, colour, text in (
        (low["in"], theme.muted, "image"),
        (high["out"], theme.series[1], f"f, {number(high['contrast_hu'])} HU"),
        (low["out"], theme.series[0], f"f, {number(low['contrast_hu'])} HU"),
    ):
        axes.plot(frequencies, curve, color=colour, lw=1.8, label=text)
    axes.set_ylim(0, None)
    axes.set_xlim(0, 0.5 / length)
    _dress(axes, "Task transfer of an edge", f"Cycles per {unit}")


def _detected(axes: Axes, rows: list[Mapping[str, Any]], theme: Theme) -> None:
    axes.axhline(1, color=theme.muted, lw=1.1, ls=(0, (1, 2)), zorder=1)
    for place, row in enumerate(rows):
        kept = Interval.of(row["detectability_kept"])
        axes.plot([place, place], [kept.low, kept.high], color=theme.series[0], lw=2.4, alpha=0.5)
        axes.plot([place], [kept.value], "o", ms=6, color=theme.series[0])
    axes.set_xlim(-0.5, len(rows) - 0.5)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0.8), max(high, 1.1))
    axes.set_xticks(
        range(len(rows)), [f"{number(row['radius_px'])} px\n{number(row['contrast_hu'])} HU" for row in rows]
    )
    axes.tick_params(axis="x", labelsize=8)
    _dress(axes, "Detectability kept", "")


def _dress(axes: Axes, heading: str, below: str) -> None:
    axes.set_title(heading, size=9.5, loc="left", pad=8)
    axes.set_xlabel(below, size=9)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper right", fontsize=8, borderaxespad=0.2, handlelength=1.2)
