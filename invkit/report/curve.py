"""The plot of what each tolerance leaves: spread of certified samples over epsilon, beside what epsilon alone allows."""

__all__ = ["curve_figure", "curve_points"]

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from invkit.report.data import LayerFigures
from invkit.report.table import figure as metric
from invkit.report.theme import Theme, label
from invkit.statistics.intervals import Interval, number


def curve_points(layer: LayerFigures) -> list[Mapping[str, Any]]:
    """Return the points of a layer's curve, the largest epsilon first; none where nothing was refined."""
    certified = layer.metrics.get("certified")
    points = certified.get("curve") if isinstance(certified, Mapping) else None
    return list(points or ())


def curve_figure(title: str, layers: Sequence[LayerFigures], theme: Theme) -> Figure | None:
    """Return spread(epsilon) of every layer on two logarithmic axes; `None` where no layer has a curve."""
    curves = [(layer, curve_points(layer)) for layer in layers]
    curves = [(layer, points) for layer, points in curves if any(point["spread_hu"] for point in points)]
    if not curves:
        return None
    height = 4.0
    figure = Figure(figsize=(9.2, height))
    figure.text(0.014, 1 - 0.13 / height, label(title), size=12, weight="bold", va="top", parse_math=False)
    axes = figure.add_axes((0.085, 0.68 / height, 0.59, 1 - 1.23 / height))
    for index, (layer, points) in enumerate(curves):
        colour = theme.series[index % len(theme.series)]
        name = "Certified samples" if len(curves) == 1 else label(f"Layer {layer.key}", 30)
        _line(axes, points, colour, name.replace("$", r"\$"))
        at = metric(layer.metrics, "certified.epsilon")
        spread = metric(layer.metrics, "certified.spread_hu")
        if at is not None and spread is not None and spread.value > 0:
            axes.plot(
                at.value,
                spread.value,
                "o",
                ms=10,
                mfc="none",
                color=colour,
                label="At the default epsilon" if index == 0 else None,
            )
        eta = metric(layer.metrics, "noise_distance")
        if eta is not None and eta.value > 0:
            text = "Noise at this dose" if index == 0 else None
            axes.axvline(eta.value, color=colour, lw=1.1, ls=(0, (3, 2)), zorder=1, label=text)
    points = max((points for _, points in curves), key=len)
    axes.plot(
        [point["epsilon"] for point in points],
        [point["spread_epsilon_hu"] for point in points],
        ":",
        color=theme.muted,
        lw=1.8,
        label="Allowed by epsilon alone",
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("Epsilon  (1 = two different patches)", size=9)
    axes.set_ylabel("Spread, HU", size=9)
    axes.grid(which="major")
    axes.legend(loc="upper left", bbox_to_anchor=(1.03, 1.0), fontsize=8.5, borderaxespad=0, labelspacing=0.8)
    return figure


def _line(axes: Axes, points: Sequence[Mapping[str, Any]], colour: str, name: str) -> None:
    known = [(point["epsilon"], Interval.of(point["spread_hu"])) for point in points if point["spread_hu"]]
    axes.plot(
        [epsilon for epsilon, _ in known],
        [spread.value for _, spread in known],
        "-o",
        color=colour,
        lw=1.8,
        ms=4,
        label=name,
    )
    sure = [(epsilon, spread) for epsilon, spread in known if spread.known]
    axes.fill_between(
        [epsilon for epsilon, _ in sure],
        [spread.low for _, spread in sure],
        [spread.high for _, spread in sure],
        color=colour,
        alpha=0.2,
        lw=0,
    )
