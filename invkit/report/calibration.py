"""Plots of calibration: ranks of truths among samples, and coverage of random regions, one row per layer."""

__all__ = ["calibration_figure"]

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from invkit.calibration.record import CalibrationRecord
from invkit.report.theme import Theme, label

WIDTH, ROW, TOP, FOOT = 9.2, 2.0, 0.78, 0.95
CODE, PROJECTION, NORM = range(3)
HIGHEST = 4.0  # of the histograms, in units of a uniform one
HEADINGS = ("Ranks: distribution minus uniform", "Ranks: histogram", "Coverage of random regions")


def calibration_figure(
    title: str, records: Sequence[tuple[str, CalibrationRecord]], theme: Theme
) -> Figure | None:
    """Return one row of three plots for each layer; `None` for no layers.

    Args:
        title: of the figure.
        records: layers, as the user named them, and how well their flows are calibrated.
        theme: colours.
    """
    if not records:
        return None
    between = 0.42
    height = TOP + len(records) * ROW + (len(records) - 1) * between + FOOT
    figure = Figure(figsize=(WIDTH, height))
    figure.text(0.014, 1 - 0.13 / height, label(title), size=12, weight="bold", va="top", parse_math=False)
    for row, (name, record) in enumerate(records):
        bottom = height - TOP - (row + 1) * ROW - row * between
        panels = [
            figure.add_axes((left / WIDTH, bottom / height, 2.28 / WIDTH, ROW / height))
            for left in (0.72, 3.72, 6.72)
        ]
        _ranks(panels[0], record, theme)
        _histogram(panels[1], record, theme)
        _coverage(panels[2], record, theme)
        for axes, heading in zip(panels, HEADINGS, strict=True):
            if row == 0:
                axes.set_title(heading, size=9.5, loc="left", pad=8)
            axes.grid(axis="y")
            axes.set_axisbelow(True)
            axes.tick_params(labelsize=8.5)
        if len(records) > 1:
            text = label(f"Layer {name}", 24)
            panels[0].text(
                0.03, 0.95, text, transform=panels[0].transAxes, size=9, weight="bold", va="top", zorder=5
            )
        if row == len(records) - 1:
            panels[0].set_xlabel("Rank of the truth, as a fraction", size=9)
            panels[1].set_xlabel("Rank of the truth, as a fraction", size=9)
            panels[2].set_xlabel("Credibility", size=9)
    _legend(figure, theme)
    return figure


def _ranks(axes: Axes, record: CalibrationRecord, theme: Theme) -> None:
    low, high = np.median(record.low, axis=1), np.median(record.high, axis=1)
    axes.fill_between(record.position, low, high, color=theme.muted, alpha=0.22, lw=0, zorder=1)
    for kind, colour, width in ((CODE, theme.series[0], 0.5), (PROJECTION, theme.series[2], 0.6)):
        for one in np.flatnonzero(record.kind == kind):
            departs = bool(record.departs[one])
            axes.plot(
                record.position,
                record.difference[:, one],
                color=theme.series[1] if departs else colour,
                lw=width,
                alpha=0.55 if departs else 0.3,
                zorder=3 if departs else 2,
            )
    norm = record.difference[:, record.kind == NORM]
    axes.plot(record.position, norm, color=theme.text, lw=1.7, zorder=4)
    reach = 1.1 * max(0.05, float(np.abs(record.difference).max()), float(np.abs([low, high]).max()))
    axes.set_xlim(0, 1)
    axes.set_ylim(-reach, reach)


def _histogram(axes: Axes, record: CalibrationRecord, theme: Theme) -> None:
    bins = record.histogram.shape[1]
    edges = np.linspace(0, 1, bins + 1)
    top = 0.0
    for kind, colour, width in ((CODE, theme.series[0], 1.5), (NORM, theme.text, 1.5)):
        counts = record.histogram[kind]
        if counts.sum():
            density = counts / counts.mean()
            axes.stairs(density, edges, color=colour, lw=width, zorder=3)
            top = max(top, float(density.max()))
    axes.axhline(1, color=theme.muted, lw=0.9, ls=(0, (1, 2)), zorder=1)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, min(1.1 * max(top, 1.6), HIGHEST))


def _coverage(axes: Axes, record: CalibrationRecord, theme: Theme) -> None:
    place, difference, low, high = record.coverage
    axes.fill_between(place, place + low, place + high, color=theme.muted, alpha=0.22, lw=0, zorder=1)
    axes.plot([0, 1], [0, 1], color=theme.muted, lw=0.9, ls=(0, (1, 2)), zorder=2)
    axes.plot([0, *place, 1], [0, *(place + difference), 1], color=theme.series[3], lw=1.8, zorder=3)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_ylabel("Expected coverage", size=9, labelpad=3)


def _legend(figure: Figure, theme: Theme) -> None:
    handles = [
        Line2D([], [], color=theme.series[0], lw=1.5, label="numbers of the code"),
        Line2D([], [], color=theme.series[2], lw=1.5, label="projections of it"),
        Line2D([], [], color=theme.text, lw=1.7, label="distance from the flow's centre, |v|"),
        Line2D([], [], color=theme.series[1], lw=1.5, label="outside its band"),
        Line2D([], [], color=theme.series[3], lw=1.8, label="coverage"),
        Patch(color=theme.muted, alpha=0.22, lw=0, label="band of a calibrated flow"),
    ]
    figure.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.06, 0.0), ncols=3, fontsize=8.5)
