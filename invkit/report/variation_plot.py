"""Plot of what refinement leaves of changes of anatomy, beside what the tolerance allows and what two scans differ by."""

__all__ = ["changes_figure"]

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from invkit.report.data import LayerFigures
from invkit.report.theme import Theme, label
from invkit.statistics.intervals import number

LEAST = 0.01  # HU: what is less is drawn there


def changes_figure(title: str, layers: Sequence[LayerFigures], theme: Theme) -> Figure | None:
    """Return a row for each change of each layer, contrast in HU along a logarithmic axis; `None` where none was tried."""
    rows = [
        (layer.key, change)
        for layer in layers
        for change in ((layer.metrics.get("variation") or {}).get("anatomy") or {}).get("changes", ())
        if change["largest_hu"] is not None
    ]
    if not rows:
        return None
    height = 1.35 + 0.3 * len(rows)
    figure = Figure(figsize=(9.2, height))
    figure.text(0.014, 1 - 0.13 / height, label(title), size=12, weight="bold", va="top", parse_math=False)
    axes = figure.add_axes((0.42, 0.55 / height, 0.55, (height - 1.2) / height))
    marks = (
        ("proposed_hu", "proposed", theme.muted, "o", False),
        ("scans_hu", "two scans", theme.series[1], "|", True),
        ("allowed_hu", "allowed by epsilon", theme.series[2], "|", True),
        ("largest_hu", "remaining, max.", theme.series[0], "o", True),
    )
    for key, name, colour, marker, filled in marks:
        axes.plot(
            [max(change[key], LEAST) for _, change in rows],
            range(len(rows)),
            marker,
            color=colour,
            mfc=colour if filled else "none",
            ms=6 if marker == "o" else 11,
            mew=1.6,
            label=name,
        )
    for row, (key, change) in enumerate(rows):
        text = change["label"] if len(layers) == 1 else f"layer {key}: {change['label']}"
        axes.text(
            -0.02,
            row,
            label(text, 56),
            transform=axes.get_yaxis_transform(),
            ha="right",
            va="center",
            size=8.5,
            parse_math=False,
        )
    axes.set_xscale("log")
    axes.set_xlim(LEAST / 1.3, 1.3 * max(change["proposed_hu"] for _, change in rows) + 1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("Contrast, HU (values below 0.01 are drawn at 0.01)", size=9)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, fontsize=8.5, borderaxespad=0)
    return figure
