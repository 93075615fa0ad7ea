"""Rows of images as in the papers: x, samples, mean and standard deviation, and what checks them."""

__all__ = [
    "certified_figure",
    "changes_figure",
    "checks_figure",
    "samples_figure",
    "std_limit",
    "windowed_png",
]

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image as Pillow

from invkit.images.window import Window
from invkit.report.data import Change, Image, LayerFigures
from invkit.report.theme import Theme, label
from invkit.statistics.intervals import number

STD_COLOURS, CHANGE_COLOURS = "magma", "RdBu_r"
# inches
CELL, GAP, MARGIN, BAR, TITLE, ROW_LABEL, HEADINGS, FOOT = 1.5, 0.07, 0.1, 0.75, 0.5, 0.32, 0.22, 0.62
CHANGE_TITLE, CHANGE_ROW, CHANGE_FOOT = 0.45, 0.55, 0.35


@dataclass(frozen=True)
class Cell:
    """One image of a row; `std` images have the sequential colour map, others the display window.

    What is not within the frame (rows and columns of it) is hatched, where there is one.
    """

    heading: str
    image: Image
    std: bool = False
    frame: tuple[slice, slice] | None = None


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
) -> Figure | None:
    """Return the figure of the slides: x, samples, mean and standard deviation, one row per layer.

    `None` where no layer has samples of a model, or of a plugin.
    """
    layers = [layer for layer in layers if "spread_hu" in layer.metrics]
    if not layers:
        return None
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


def certified_figure(
    title: str, layers: Sequence[LayerFigures], window: Window, theme: Theme, count: int = 4
) -> Figure | None:
    """Return the row of what is proven: x, certified images, their mean and standard deviation, one row per layer.

    `None` where no layer has enough certified samples for a map.
    """
    proven = [layer for layer in layers if layer.certified is not None and layer.certified_std is not None]
    if not proven:
        return None
    table = []
    for layer in proven:
        assert layer.certified is not None and layer.certified_std is not None
        row = [Cell("x, low dose", layer.x)]
        row += [Cell(f"Certified {index + 1}", image) for index, image in enumerate(layer.certified[:count])]
        if layer.certified_mean is not None:
            row.append(Cell("Mean", layer.certified_mean))
        table.append([*row, Cell("Standard deviation", layer.certified_std, True, layer.interior)])
    return _grid(title, proven, table, window, theme)


def checks_figure(title: str, layers: Sequence[LayerFigures], window: Window, theme: Theme) -> Figure | None:
    """Return the images that check the samples: VAE, f, spread of f, swaps; `None` where there are none."""
    table = []
    for layer in layers:
        row = [Cell("x, low dose", layer.x)]
        if layer.reference is not None:
            row.append(Cell("y, high dose", layer.reference))
        if layer.reconstruction is not None:
            row.append(Cell("Reconstruction of x", layer.reconstruction))
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


def changes_figure(
    title: str, layers: Sequence[LayerFigures], group: str, window: Window, theme: Theme
) -> Figure | None:
    """Return a row of images for each change of a group; `None` where there is none.

    Args:
        title: of the figure.
        layers: of the report.
        group: of changes.
        window: display window of CT images.
        theme: of the figure.
    """
    changes = [(layer, change) for layer in layers for change in layer.changes if change.group == group]
    if not changes:
        return None
    tallest = max(change.x.shape[0] / change.x.shape[1] for _, change in changes)
    columns, row_height = 6, CHANGE_ROW + CELL * tallest
    width = 2 * MARGIN + columns * CELL + (columns - 1) * GAP
    height = CHANGE_TITLE + len(changes) * row_height + CHANGE_FOOT
    figure = Figure(figsize=(width, height))

    def write(left: float, bottom: float, text: str, **style: Any) -> None:
        figure.text(left / width, bottom / height, text, parse_math=False, **style)

    write(MARGIN, height - 0.12, label(title), size=12, weight="bold", va="top")
    for index, (layer, change) in enumerate(changes):
        top = height - CHANGE_TITLE - index * row_height
        name = change.text if len(layers) == 1 else f"layer {layer.key}: {change.text}"
        write(MARGIN, top - 0.04, label(name[0].upper() + name[1:]), va="top")
        for column, (heading, image, limits, colours) in enumerate(_change_cells(change, window)):
            left, bottom = MARGIN + column * (CELL + GAP), top - row_height + 0.05
            axes = figure.add_axes((left / width, bottom / height, CELL / width, CELL * tallest / height))
            axes.imshow(image, cmap=colours, vmin=limits[0], vmax=limits[1], interpolation="none")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
            write(left, bottom + CELL * tallest + 0.05, heading, size=8.5, color=theme.muted)
    low, high = window.limits
    scale = f"Images from {number(low)} (black) to {number(high)} HU (white); differences blue below 0, red above."
    write(MARGIN, 0.12, scale, size=8.5, color=theme.muted)
    return figure


def _change_cells(change: Change, window: Window) -> list[tuple[str, Image, tuple[float, float], str]]:
    """Return heading, image, limits and colours of each image of a row."""
    cells = []
    for heading, image in (
        ("x", change.x),
        ("Not told from x", change.changed),
        ("Difference", change.changed - change.x),
        ("Structure in it", change.structure),
        ("f(x)", change.f_x),
        ("f of the other", change.f_changed),
    ):
        if heading in ("Difference", "Structure in it"):
            most = max(float(np.abs(image).max()), 1e-3)
            cells.append(
                (f"{heading}, ±{number(float(f'{most:.2g}'))} HU", image, (-most, most), CHANGE_COLOURS)
            )
        else:
            cells.append((heading, image, window.limits, "gray"))
    return cells


def _grid(
    title: str, layers: Sequence[LayerFigures], table: Sequence[Sequence[Cell]], window: Window, theme: Theme
) -> Figure:
    """Lay images out by inches, so that no text can meet another, and add the scales that are in use."""
    columns = max(len(row) for row in table)
    cell_height = CELL * layers[0].x.shape[0] / layers[0].x.shape[1]
    maps = [cell.image for row in table for cell in row if cell.std]
    single = len(layers) == 1
    if single and layers[0].note:
        title = f"{title}  ·  {layers[0].note}"
    row_label = 0.0 if single else ROW_LABEL
    width = max(2 * MARGIN + columns * CELL + (columns - 1) * GAP + (BAR if maps else 0), 6.0)
    height = TITLE + HEADINGS + len(table) * (row_label + cell_height) + FOOT
    figure = Figure(figsize=(width, height))
    limit = std_limit(maps) if maps else 1.0

    def write(left: float, bottom: float, text: str, **style: Any) -> None:
        figure.text(left / width, bottom / height, text, parse_math=False, **style)

    write(MARGIN, height - 0.12, label(title), size=12, weight="bold", va="top")
    for index, (layer, row) in enumerate(zip(layers, table, strict=True)):
        top = height - TITLE - (HEADINGS if index else 0) - index * (row_label + cell_height)
        if not single:
            note = f"  ·  {layer.note}" if layer.note else ""
            write(MARGIN, top - 0.08, label(f"Layer {layer.key}{note}"), va="top")
        bottom = height - TITLE - HEADINGS - row_label - cell_height - index * (row_label + cell_height)
        for column, cell in enumerate(row):
            left = MARGIN + column * (CELL + GAP)
            axes = figure.add_axes((left / width, bottom / height, CELL / width, cell_height / height))
            _show(axes, cell, window, limit)
            if index == 0:
                write(left, bottom + cell_height + 0.06, cell.heading, size=9, color=theme.muted)
        if any(cell.std for cell in row):
            left = MARGIN + len(row) * (CELL + GAP) + 0.02
            bar = figure.add_axes((left / width, bottom / height, 0.11 / width, cell_height / height))
            colours = ScalarMappable(Normalize(0, limit), STD_COLOURS)
            figure.colorbar(colours, cax=bar).outline.set_visible(False)
            bar.tick_params(labelsize=8, length=2)
            write(left + 0.44, bottom + cell_height / 2, "HU", size=8.5, va="center", color=theme.muted)
    _grey_bar(figure, window, (MARGIN / width, 0.34 / height, (2 * CELL + GAP) / width, 0.1 / height))
    scale = f"Images: centre {number(window.center)}, width {number(window.width)} HU."
    if maps:
        scale += f" Standard deviations: 0 to {number(limit)} HU."
    write(MARGIN + 2 * (CELL + GAP) + 0.1, 0.39, scale, size=8.5, color=theme.muted, va="center")
    return figure


def _grey_bar(figure: Figure, window: Window, place: tuple[float, float, float, float]) -> None:
    """Draw the scale of the display window; its end labels stay within its ends."""
    low, high = window.limits
    axes = figure.add_axes(place)
    axes.imshow(np.linspace(0, 1, 256)[None], cmap="gray", aspect="auto", extent=(low, high, 0, 1))
    axes.set_yticks([])
    axes.set_xticks([low, window.center, high], [number(low), number(window.center), f"{number(high)} HU"])
    axes.tick_params(labelsize=8, length=2)
    axes.spines[:].set_visible(False)
    first, *_, last = axes.get_xticklabels()
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")


def _show(axes: Axes, cell: Cell, window: Window, limit: float) -> None:
    low, high = (0.0, limit) if cell.std else window.limits
    axes.imshow(
        cell.image, cmap=STD_COLOURS if cell.std else "gray", vmin=low, vmax=high, interpolation="none"
    )
    if cell.frame is not None:
        _hatch(axes, cell.frame)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _hatch(axes: Axes, interior: tuple[slice, slice]) -> None:
    """Hatch what lies beyond the interior of the image that was drawn."""
    (left, right), (lower, upper) = axes.get_xlim(), sorted(axes.get_ylim())
    rows, columns = interior
    top, bottom, first, last = (edge - 0.5 for edge in (rows.start, rows.stop, columns.start, columns.stop))
    for x, y, width, height in (
        (left, lower, right - left, top - lower),
        (left, bottom, right - left, upper - bottom),
        (left, top, first - left, bottom - top),
        (last, top, right - last, bottom - top),
    ):
        if width > 0 and height > 0:
            axes.add_patch(
                Rectangle((x, y), width, height, fill=False, hatch="////", linewidth=0, edgecolor="0.75")
            )
