"""Plots of figures: fiber errors beside references, and the power spectra by radial band."""

__all__ = ["references_figure", "spectrum_figure"]

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from invkit.images.spectrum import power_spectrum
from invkit.report.data import Image, LayerFigures
from invkit.report.table import figure as metric
from invkit.report.theme import Theme, label
from invkit.statistics.intervals import Interval, number
from invkit.verdict.measures import REFERENCES

BANDS = 10
NAMES = {
    "vae": "VAE's reconstruction",
    "input": "Control: input",
    "samples": "Samples",
    "training_free": "f(x) plus noise",
    "noise_residual": "x + coloured noise",
    "noise_white": "x + white noise",
    "nearest": "Nearest patch",
    "unconditional": "VAE's prior",
    "const": "Control: const",
    "random": "Another image",
}
# Of a theme's series; images that stand for the same thing share a colour.
COLOURS = {
    "vae": 0,
    "input": 1,
    "samples": 2,
    "training_free": 1,
    "noise_residual": 0,
    "noise_white": 0,
    "nearest": 4,
    "unconditional": 3,
    "const": 3,
    "random": 4,
}
OF_SEVERAL = (
    "vae",
    "input",
    "samples",
    "const",
    "random",
)  # shown where there are several layers, in a row each
UNIT = "Distance of the layer's activation from that of x  (1 = two different patches)"


def _errors(layer: LayerFigures) -> dict[str, Interval]:
    found = {name: metric(layer.metrics, f"fiber_error.{name}") for name in NAMES if name in REFERENCES}
    return {name: value for name, value in found.items() if value is not None and np.isfinite(value.value)}


def _few(errors: dict[str, Interval]) -> dict[str, Interval]:
    return {name: value for name, value in errors.items() if name in OF_SEVERAL}


def references_figure(title: str, layers: Sequence[LayerFigures], theme: Theme) -> Figure | None:
    """Return the fiber errors of samples and references: a row for each, or a row for each of several layers."""
    charts = [(layer, _errors(layer)) for layer in layers]
    charts = [(layer, errors) for layer, errors in charts if errors]
    if not charts:
        return None
    single = len(charts) == 1
    if not single:
        charts = [(layer, _few(errors)) for layer, errors in charts]
    count = len(charts[0][1]) if single else len(charts)
    height = 1.5 + 0.33 * count + (0 if single else 0.3)
    figure = Figure(figsize=(9.2, height))
    left, right = (0.2, 0.76) if single else (0.13, 0.97)
    top = 1 - (0.62 if single else 0.92) / height
    axes = figure.add_axes((left, 0.68 / height, right - left, top - 0.68 / height))
    figure.text(0.014, 1 - 0.13 / height, label(title), size=12, weight="bold", va="top", parse_math=False)
    colours = {name: theme.series[COLOURS[name]] for name in NAMES}
    for row, (layer, errors) in enumerate(charts):
        for index, (name, value) in enumerate(errors.items()):
            place = float(index if single else row)
            _point(axes, value, place, colours[name], None if single or row else NAMES[name])
            if single:
                _outside(
                    axes, -0.02, place, NAMES[name], "right", weight="bold" if name == "samples" else "normal"
                )
                _outside(
                    axes, 1.03, place, value.text(), "left", weight="bold" if name == "samples" else "normal"
                )
        if not single:
            _outside(axes, -0.02, row, label(f"Layer {layer.key}", 16), "right")
        eta = metric(layer.metrics, "noise_distance")
        if eta is not None and eta.value > 0:
            extent = (-0.5, count - 0.5) if single else (row - 0.4, row + 0.4)
            text = "Noise at this dose" if row == 0 else None
            axes.plot(
                [eta.value] * 2, extent, color=theme.muted, lw=1.1, ls=(0, (3, 2)), zorder=1, label=text
            )
    noise = [metric(layer.metrics, "noise_distance") for layer, _ in charts]
    shown = [value for _, errors in charts for value in errors.values()]
    _scale(axes, [*shown, *(eta for eta in noise if eta is not None and eta.value > 0)])
    axes.axvline(1, color=theme.grid, lw=1.2, zorder=0)
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(UNIT, size=9)
    axes.grid(axis="x", which="major", zorder=0)
    axes.set_axisbelow(True)
    handles, names = axes.get_legend_handles_labels()
    if handles:
        anchor = (1.0, 1 + 0.06 / (top * height - 0.68))
        axes.legend(
            handles,
            names,
            loc="lower right",
            bbox_to_anchor=anchor,
            ncols=6,
            fontsize=8.5,
            borderaxespad=0,
            columnspacing=1.2,
            handletextpad=0.4,
        )
    return figure


def _point(axes: Axes, value: Interval, place: float, colour: str, name: str | None) -> None:
    if value.known:
        axes.plot(
            [value.low, value.high], [place, place], color=colour, lw=2.2, alpha=0.55, solid_capstyle="round"
        )
    axes.plot([value.value], [place], "o", ms=6.5, color=colour, label=name, zorder=3)


def _outside(axes: Axes, x: float, y: float, text: str, side: str, weight: str = "normal") -> None:
    axes.text(
        x,
        y,
        text,
        transform=axes.get_yaxis_transform(),
        ha=side,
        va="center",
        size=9,
        weight=weight,
        parse_math=False,
    )


def _scale(axes: Axes, values: Sequence[Interval]) -> None:
    """Use a logarithmic axis where all values allow it, with plain numbers on it."""
    lows = [min(value.value, value.low) if value.known else value.value for value in values]
    highs = [max(value.value, value.high) if value.known else value.value for value in values]
    if min(lows) > 0:
        axes.set_xscale("log")
        axes.set_xlim(min(lows) / 1.25, max(*highs, 1.0) * 1.25)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        if max(highs) / min(lows) < 30:
            steps = (step * 10.0**power for power in range(-6, 6) for step in (1, 2, 5))
            axes.set_xticks([step for step in steps if min(lows) / 1.25 <= step <= max(*highs, 1.0) * 1.25])
    else:
        axes.set_xlim(min(0, *lows), max(*highs, 1.0) * 1.08)


def _power(images: Image) -> tuple[tuple[float, ...], tuple[float, ...]]:
    spectrum = power_spectrum(np.ascontiguousarray(images, dtype=np.float64)[:, None], BANDS)
    return spectrum.frequency, spectrum.power


def spectrum_figure(title: str, layers: Sequence[LayerFigures], theme: Theme) -> Figure | None:
    """Return the power of x, its reconstruction and sample differences; `None` for too small images."""
    first = layers[0]
    # with fewer pixels the lowest band would be empty
    if min(first.x.shape) <= 2 * BANDS:
        return None
    height = 4.0
    figure = Figure(figsize=(9.2, height))
    figure.text(0.014, 1 - 0.13 / height, label(title), size=12, weight="bold", va="top", parse_math=False)
    axes = figure.add_axes((0.085, 0.6 / height, 0.59, 1 - 1.15 / height))
    lines: list[tuple[str, Image, str, str]] = [("x, low dose", first.x[None], theme.text, "-")]
    if first.reconstruction is not None:
        lines.append(("Reconstruction of x", first.reconstruction[None], theme.muted, "--"))
    if first.output is not None:
        lines.append(("f(x)", first.output[None], theme.muted, ":"))
    for index, layer in enumerate(layers):
        if len(layer.samples) < 2:
            continue
        # the mean over a few samples takes part of each, so the difference of pairs is the unbiased measure
        differences = (layer.samples[1:] - layer.samples[:-1]) / np.sqrt(2)
        name = "Samples" if len(layers) == 1 else label(f"Samples, layer {layer.key}", 30)
        lines.append((f"{name}: differences", differences, theme.series[index % len(theme.series)], "-"))
    lowest = min(_power(first.x[None])[1])
    for name, images, colour, style in lines:
        frequency, power = _power(images)
        if min(power) > 0:
            axes.plot(
                frequency,
                power,
                style,
                color=colour,
                lw=1.8,
                marker="o",
                ms=3.5,
                label=name.replace("$", r"\$"),
            )
    axes.set_yscale("log")
    if lowest > 0:
        # far below the image's own noise nothing is of interest, and the rest would be squeezed
        axes.set_ylim(bottom=lowest / 300)
    axes.set_xlim(0, 0.5)
    axes.set_xlabel("Spatial frequency, cycles per pixel", size=9)
    axes.set_ylabel("Power, HU² px²", size=9)
    axes.grid(which="major")
    axes.legend(loc="upper left", bbox_to_anchor=(1.03, 1.0), fontsize=8.5, borderaxespad=0, labelspacing=0.8)
    return figure
