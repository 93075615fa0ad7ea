"""Colours of the figures, light and dark, and their rendering to PNG and SVG without pyplot."""

__all__ = ["DARK", "LIGHT", "Theme", "label", "recoloured", "render"]

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font

from invkit.report.data import plain

FONT = "DejaVu Sans"
DPI = 150


@dataclass(frozen=True)
class Theme:
    """Colours of one look; `series` tell lines and points apart, also for colour-blind readers."""

    background: str
    text: str
    muted: str
    grid: str
    series: tuple[str, ...]

    @property
    def colours(self) -> tuple[str, ...]:
        """All colours, in an order that is the same for every theme."""
        return (self.background, self.text, self.muted, self.grid, *self.series)

    def settings(self) -> Any:
        """Return matplotlib's settings for this look."""
        return {
            "font.family": [FONT],
            "font.size": 9.5,
            "figure.facecolor": self.background,
            "savefig.facecolor": self.background,
            "axes.facecolor": self.background,
            "axes.edgecolor": self.muted,
            "axes.labelcolor": self.text,
            "axes.linewidth": 0.7,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "grid.color": self.grid,
            "grid.linewidth": 0.7,
            "text.color": self.text,
            "xtick.color": self.muted,
            "ytick.color": self.muted,
            "xtick.labelcolor": self.text,
            "ytick.labelcolor": self.text,
            "legend.frameon": False,
            "svg.hashsalt": "invkit",
        }


LIGHT = Theme(
    "#ffffff", "#1b2430", "#66717f", "#e3e7ec", ("#1f6f8b", "#c2571a", "#5b4b9a", "#4d7c2f", "#a33a5c")
)
DARK = Theme(
    "#171c23", "#e4e8ee", "#95a1b0", "#2b333d", ("#63b7d3", "#f0995c", "#a99bea", "#98c977", "#ec8aab")
)


@cache
def _glyphs() -> frozenset[int]:
    return frozenset(get_font(findfont(FONT)).get_charmap())


def label(text: object, longest: int = 90) -> str:
    """Return a text that the figures' font can draw, on one line and of bounded length."""
    line = " ".join(plain(text).split())
    line = line if len(line) <= longest else line[: longest - 1] + "…"
    return "".join(character if ord(character) in _glyphs() else "\ufffd" for character in line)


def render(
    build: Callable[[Theme], Figure], theme: Theme, formats: Sequence[Literal["png", "svg"]] = ("png",)
) -> list[bytes]:
    """Build a figure in a theme and return its files; equal figures give equal bytes."""
    files = []
    with mpl.rc_context():
        # start from matplotlib's own defaults, whatever the user's file says
        mpl.rcdefaults()
        mpl.rcParams.update(theme.settings())
        figure = build(theme)
        FigureCanvasAgg(figure)
        for kind in formats:
            buffer = io.BytesIO()
            # a date would make every file another one
            metadata = {"Date": None} if kind == "svg" else {}
            figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
            files.append(buffer.getvalue())
    return files


def recoloured(svg: bytes, drawn: Theme, wanted: Theme) -> bytes:
    """Return a figure's SVG in the colours of another theme, for next to nothing, without any `style`.

    Browsers do not agree on whether a page's content security policy holds for the styles in its images; attributes are
    always obeyed.

    Args:
        svg: as `render` returns it.
        drawn: the theme it was drawn in, no two of whose colours are the same.
        wanted: the other one.
    """
    colours = {one.encode(): other.encode() for one, other in zip(drawn.colours, wanted.colours, strict=True)}
    svg = re.sub(rb"#[0-9a-f]{6}\b", lambda found: colours.get(found[0], found[0]), svg)
    for_all = re.search(rb"<style[^>]*>\*\{([^}]*)\}</style>", svg)
    if for_all is not None:
        svg = svg.replace(for_all[0], b"").replace(b"<svg ", b"<svg " + _attributes(for_all[1]) + b" ", 1)
    return re.sub(rb'style="([^"]*)"', lambda found: _attributes(found[1]), svg)


def _attributes(style: bytes) -> bytes:
    """Return declarations as attributes; of several for one property the last holds."""
    values = dict(one.split(b":", 1) for one in style.split(b";") if one.strip())
    return b" ".join(b'%s="%s"' % (name.strip(), value.strip()) for name, value in values.items())
