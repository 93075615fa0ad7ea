"""Plots over the depth of a network: what layers retain, and how well the image is estimated from them."""

__all__ = ["depth_figure"]

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from invkit.measures.regressed import RegressionCurve
from invkit.measures.retained import RetainedCurve, Rise
from invkit.report.theme import Theme, label
from invkit.statistics.convergence import Convergence
from invkit.statistics.intervals import Interval, number

WIDTH, HEIGHT = 9.2, 3.9
LEAST = 0.02  # of retained information, so that a flat curve looks flat


def depth_figure(
    title: str, retained: RetainedCurve | None, regression: RegressionCurve | None, theme: Theme
) -> Figure | None:
    """Return retained information and RMSE of the regression side by side; `None` for fewer than two layers.

    Open circles had not converged; pairs of layers in an order that cannot be are joined by a dashed line.
    """
    shown = [curve for curve in (retained, regression) if curve is not None and len(curve.layers) > 1]
    if not shown:
        return None
    figure = Figure(figsize=(WIDTH, HEIGHT))
    figure.text(0.014, 1 - 0.13 / HEIGHT, label(title), size=12, weight="bold", va="top", parse_math=False)
    each = 0.91 / len(shown)
    colours = theme.series
    for index, curve in enumerate(shown):
        axes = figure.add_axes((0.085 + index * each, 0.82 / HEIGHT, each - 0.085, 1 - 1.72 / HEIGHT))
        if isinstance(curve, RetainedCurve):
            _curve(axes, curve.layers, curve.retained, curve.convergence, curve.rises, colours[0], theme)
            _retained_axis(axes, curve.retained)
            heading = "Retained information R (1 = all of the code)"
        else:
            _curve(axes, curve.layers, curve.rmse, curve.convergence, curve.falls, colours[1], theme)
            _rmse_axis(axes, curve.rmse)
            heading = "RMSE of the best regression of x from z, HU"
        axes.set_title(heading, size=9.5, loc="left", pad=8)
        axes.set_xticks(range(len(curve.layers)), [label(name, 12) for name in curve.layers])
        axes.set_xlim(-0.5, len(curve.layers) - 0.5)
        axes.set_xlabel("Layer, from the image to the output", size=9)
        axes.grid(axis="y", which="major")
        axes.set_axisbelow(True)
    _legend(figure, shown, theme)
    return figure


def _curve(
    axes: Axes,
    layers: Sequence[str],
    values: Sequence[Interval],
    ended: Sequence[Convergence],
    wrong: Sequence[Rise],
    colour: str,
    theme: Theme,
) -> None:
    places = list(range(len(values)))
    axes.plot(places, [value.value for value in values], color=colour, lw=1.6, zorder=2)
    for place, value in zip(places, values, strict=True):
        if value.known:
            axes.plot([place] * 2, [value.low, value.high], color=colour, lw=2.4, alpha=0.5, zorder=2)
        open_circle = bool(ended) and ended[place].converged is not True
        axes.plot(
            [place],
            [value.value],
            "o",
            ms=7,
            color=colour,
            markerfacecolor=theme.background if open_circle else colour,
            markeredgewidth=1.6,
            zorder=3,
        )
    for pair in wrong:
        first, second = layers.index(pair.shallow), layers.index(pair.deep)
        axes.plot(
            [first, second],
            [values[first].value, values[second].value],
            color=theme.series[4],
            lw=2.4,
            ls=(0, (1.5, 1)),
            zorder=4,
        )


def _bounds(values: Sequence[Interval]) -> tuple[float, float]:
    ends = [bound for one in values for bound in (one.value, one.low, one.high) if np.isfinite(bound)]
    return min(ends), max(ends)


def _retained_axis(axes: Axes, values: Sequence[Interval]) -> None:
    low, high = _bounds(values)
    spare = max(0.12 * (high - low), LEAST / 2)
    axes.set_ylim(low - spare, high + spare)
    for edge in (0.0, 1.0):
        if low - spare <= edge <= high + spare:
            axes.axhline(edge, lw=0.9, ls=(0, (1, 2)), color=axes.spines["left"].get_edgecolor(), zorder=1)


def _rmse_axis(axes: Axes, values: Sequence[Interval]) -> None:
    low, high = _bounds(values)
    if low > 0 and high / low > 4:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.25, high * 1.25)
        steps = [step * 10.0**power for power in range(-6, 6) for step in (1, 2, 5)]
        axes.set_yticks([step for step in steps if low / 1.25 <= step <= high * 1.25])
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        spare = max(0.12 * (high - low), 0.02 * high, 1e-9)
        axes.set_ylim(max(0.0, low - spare), high + spare)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))


def _legend(figure: Figure, shown: Sequence[RetainedCurve | RegressionCurve], theme: Theme) -> None:
    """Say what circles and dashes mean, where there are any."""
    circle: dict[str, Any] = {"marker": "o", "ls": "", "ms": 7, "color": theme.muted, "markeredgewidth": 1.6}
    handles = [Line2D([], [], label="95 % interval over patients", color=theme.muted, lw=2.4, alpha=0.5)]
    ends = [ended for curve in shown for ended in curve.convergence]
    if any(ended.converged for ended in ends):
        handles.append(Line2D([], [], label="training converged", **circle))
    if any(not ended.converged for ended in ends):
        handles.append(
            Line2D(
                [],
                [],
                label="not converged, or unknown",
                markerfacecolor=theme.background,
                **circle,
            )
        )
    if any(curve.rises if isinstance(curve, RetainedCurve) else curve.falls for curve in shown):
        handles.append(
            Line2D([], [], label="impossible order", color=theme.series[4], lw=2.4, ls=(0, (1.5, 1)))
        )
    figure.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.075, 0.0), ncols=4, fontsize=8.5)
