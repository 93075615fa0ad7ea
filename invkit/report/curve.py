"""The plot of what hides from a layer at every tolerance, beside what hides from the image itself."""

__all__ = ["curve_figure"]

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from invkit.report.data import LayerFigures
from invkit.report.theme import Theme, label
from invkit.statistics.intervals import Interval, number

WIDTH, HEIGHT = 9.2, 3.7
NEAR = 1.4  # times another mark
NAMES = {
    "float32": "float32",
    "bfloat16": "bfloat16",
    "int8": "8 bits",
    "grey_level": "1 grey level",
    "tenth_of_repeat": "1/10 scan",
    "repeat": "repeat scan",
}


def curve_figure(title: str, layers: Sequence[LayerFigures], theme: Theme) -> Figure | None:
    """Return hidden noise and hidden discs over the tolerance, side by side; `None` where no layer has a curve.

    Lines are a layer's, dots the image's at the same tolerance; the marks of the first layer stand at the top.
    """
    shown = [layer for layer in layers if layer.metrics.get("curve")]
    if not shown:
        return None
    figure = Figure(figsize=(WIDTH, HEIGHT))
    figure.text(0.014, 1 - 0.13 / HEIGHT, label(title), size=12, weight="bold", va="top", parse_math=False)
    sides = (
        ("Noise that hides, HU", [("", "")]),
        ("Disc that hides, HU", _radii(shown[0])),
    )
    for index, (heading, kinds) in enumerate(sides):
        axes = figure.add_axes((0.075 + 0.49 * index, 0.55 / HEIGHT, 0.41, 1 - 1.55 / HEIGHT))
        for number_of, layer in enumerate(shown):
            for dashes, (kind, name) in zip(("-", (0, (4, 2))), kinds, strict=False):
                colour = theme.series[number_of % len(theme.series)]
                text = " ".join(
                    part for part in ("" if len(shown) == 1 else f"layer {layer.key}", name) if part
                )
                _line(
                    axes, layer.metrics["curve"], kind, colour, dashes, theme, label(text or "the layer", 30)
                )
        _dress(axes, heading, shown[0].metrics["tolerance"], theme)
    return figure


def _radii(layer: LayerFigures) -> list[tuple[str, str]]:
    radii = [disc["radius_px"] for disc in layer.metrics["curve"][0]["discs"]]
    return [(str(radius), f"radius {number(radius)} px") for radius in radii]


def _line(
    axes: Axes,
    points: Sequence[Mapping[str, Any]],
    kind: str,
    colour: str,
    dashes: Any,
    theme: Theme,
    name: str,
) -> None:
    known = []
    for point in points:
        found = point if not kind else {str(disc["radius_px"]): disc for disc in point["discs"]}.get(kind, {})
        if found.get("hidden_hu") is not None:
            pair = (Interval.of(found[key]).value for key in ("hidden_hu", "identity_hidden_hu"))
            known.append((point["tolerance"], *pair))
    if not known:
        return
    places, ours, image = zip(*known, strict=True)
    axes.plot(places, ours, "o", ls=dashes, color=colour, lw=1.8, ms=4, label=name)
    axes.plot(
        places, image, ls=":", color=theme.muted, lw=1.4, label="the image" if kind in ("", "2.0") else None
    )


def _dress(axes: Axes, heading: str, tolerance: Mapping[str, Any], theme: Theme) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        axis.set_minor_formatter(NullFormatter())
    axes.set_title(heading, size=9.5, loc="left", pad=24)
    axes.set_xlabel("Tolerance, repeat scans", size=9)
    axes.grid(which="major")
    low, high = axes.get_xlim()
    marks = [(mark, value) for mark, value in tolerance["marks"].items() if low <= value <= high]
    for mark, value in marks:
        chosen = mark == tolerance["mark"]
        colour = theme.text if chosen else theme.muted
        axes.axvline(value, color=colour, lw=1.2 if chosen else 0.6, zorder=0)
    # Marks that are nearly the same share their words.
    groups: list[list[tuple[str, float]]] = []
    for mark, value in sorted(marks, key=lambda pair: pair[1]):
        near = bool(groups) and value <= NEAR * groups[-1][0][1]
        if near:
            groups[-1].append((mark, value))
        else:
            groups.append([(mark, value)])
    for group in groups:
        chosen = any(mark == tolerance["mark"] for mark, _ in group)
        axes.text(
            group[0][1],
            1.02,
            ",\n".join(NAMES[mark] for mark, _ in group),
            transform=axes.get_xaxis_transform(),
            size=7,
            ha="center",
            va="bottom",
            color=theme.text if chosen else theme.muted,
            weight="bold" if chosen else "normal",
        )
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", fontsize=8, borderaxespad=0.4)
