"""Rows of images as in the papers: x, samples, mean and standard deviation, and what checks them."""

__all__ = ["checks_figure", "samples_figure", "std_limit", "windowed_png"]

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image as Pillow

from invkit.metrics.image import Window
from invkit.metrics.intervals import number
from invkit.report.data import Image, LayerFigures
from invkit.report.theme import Theme, label

STD_COLOURS = "magma"
# inches
CELL, GAP, MARGIN, BAR, HEADING, ROW_LABEL, FOOT = 1.5, 0.07, 0.16, 0.85, 0.72, 0.3, 0.66


@dataclass(frozen=True)
class Cell:
    """One image of a row; `std` images have the sequential colour map, others the display window."""

    heading: str
    image: Image
    std: bool = False


def std_limit(maps: Sequence[Image]) -> float:
    """Return the upper end in HU of a common colour scale: the 99.5 % quantile, not few pixels."""
    return max(1.0, float(np.quantile(np.concatenate([np.ravel(image) for image in maps]), 0.995)))


def windowed_png(image: Image, window: Window) -> bytes:
    """Return an image in HU as an 8-bit grey PNG of its own size, on a display window."""
    low, high = window.limits
    grey = np.clip((np.asarray(image, dtype=np.float64) - low) / (high - low), 0, 1) * 255
    buffer = io.BytesIO()
    Pillow.fromarray(grey.round().astype(np.uint8)).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def samples_figure(
    title: str, layers: Sequence[LayerFigures], window: Window, theme: Theme, count: int = 4
) -> Figure:
    """Return the figure of the slides: x, samples, mean and standard deviation, one row a layer."""
    table = []
    for layer in layers:
        shown = [Cell(f"Sample {index + 1}", image) for index, image in enumerate(layer.samples[:count])]
        table.append(
            [
                Cell("x, low dose", layer.x),
                *shown,
                Cell("Mean", layer.mean),
                Cell("Standard deviation", layer.std, True),
            ]
        )
    return _grid(title, layers, table, window, theme)


def checks_figure(title: str, layers: Sequence[LayerFigures], window: Window, theme: Theme) -> Figure | None:
    """Return the images that check the samples: VAE, f, spread of f, swaps; `None` where there are none."""
    table = []
    for layer in layers:
        row = [Cell("x, low dose", layer.x)]
        if layer.reference is not None:
            row.append(Cell("y, high dose", layer.reference))
        if layer.reconstruction is not None:
            row.append(Cell("VAE's D(E(x))", layer.reconstruction))
        if layer.output is not None:
            row.append(Cell("f(x)", layer.output))
        if layer.swaps is not None:
            row += [Cell(f"Swap {index + 1}", image) for index, image in enumerate(layer.swaps[:2])]
        if layer.output_std is not None:
            row.append(Cell("Std. dev. of f", layer.output_std, True))
        table.append(row)
    if len({tuple(cell.heading for cell in row) for row in table}) != 1 or len(table[0]) < 2:
        return None
    return _grid(title, layers, table, window, theme)


def _grid(
    title: str, layers: Sequence[LayerFigures], table: Sequence[Sequence[Cell]], window: Window, theme: Theme
) -> Figure:
    """Lay images out by inches, so that no text can meet another, and add the scales that are in use."""
    columns = max(len(row) for row in table)
    height_of_cell = CELL * layers[0].x.shape[0] / layers[0].x.shape[1]
    maps = [cell.image for row in table for cell in row if cell.std]
    width = 2 * MARGIN + columns * CELL + (columns - 1) * GAP + (BAR if maps else 0)
    width = max(width, 6.0)
    height = HEADING + len(table) * (ROW_LABEL + height_of_cell) + FOOT
    figure = Figure(figsize=(width, height))
    limit = std_limit(maps) if maps else 1.0
    figure.text(
        MARGIN / width, 1 - 0.14 / height, label(title), size=12, weight="bold", va="top", parse_math=False
    )
    for index, (layer, row) in enumerate(zip(layers, table, strict=True)):
        top = height - HEADING - index * (ROW_LABEL + height_of_cell)
        name = label(f"Layer {layer.key}" + (f"  ·  {layer.note}" if layer.note else ""))
        figure.text(MARGIN / width, (top - 0.02) / height, name, va="top", parse_math=False)
        bottom = top - ROW_LABEL - height_of_cell
        for column, cell in enumerate(row):
            left = MARGIN + column * (CELL + GAP)
            axes = figure.add_axes((left / width, bottom / height, CELL / width, height_of_cell / height))
            _show(axes, cell, window, limit)
            if index == 0:
                middle = (left + CELL / 2) / width
                figure.text(
                    middle, (top + 0.07) / height, cell.heading, ha="center", size=9, color=theme.muted
                )
        if any(cell.std for cell in row):
            left = MARGIN + len(row) * (CELL + GAP) + 0.03
            bar = figure.add_axes((left / width, bottom / height, 0.11 / width, height_of_cell / height))
            figure.colorbar(
                ScalarMappable(Normalize(0, limit), STD_COLOURS), cax=bar, label="HU"
            ).outline.set_visible(False)
            bar.tick_params(labelsize=8, length=2)
    low, high = window.limits
    grey = figure.add_axes((MARGIN / width, 0.34 / height, 2 * CELL / width, 0.1 / height))
    grey.imshow(np.linspace(0, 1, 256)[None], cmap="gray", aspect="auto", extent=(low, high, 0, 1))
    grey.set_yticks([])
    grey.set_xticks(
        [low, window.center, high], [f"{number(low)}", number(window.center), f"{number(high)} HU"]
    )
    grey.tick_params(labelsize=8, length=2)
    grey.spines[:].set_visible(False)
    scale = f"Display window: centre {number(window.center)}, width {number(window.width)} HU."
    if maps:
        scale += f" Standard deviations: 0 to {number(limit)} HU."
    figure.text(
        (MARGIN + 2 * CELL + 0.35) / width, 0.39 / height, scale, size=8.5, color=theme.muted, va="center"
    )
    return figure


def _show(axes: Axes, cell: Cell, window: Window, limit: float) -> None:
    low, high = (0.0, limit) if cell.std else window.limits
    axes.imshow(
        cell.image, cmap=STD_COLOURS if cell.std else "gray", vmin=low, vmax=high, interpolation="nearest"
    )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
