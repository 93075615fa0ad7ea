"""The report as one HTML file: figures inside it, nothing loaded from anywhere, no text trusted."""

__all__ = ["render_html"]

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from invkit.measures.table import TILES, shown_at
from invkit.report.data import Image, LayerFigures, ReportData, jsonable, plain
from invkit.report.output import output_tables
from invkit.report.plates import Plate, plates
from invkit.report.rows import windowed_png
from invkit.report.table import figure as metric
from invkit.report.table import overview, references, rows
from invkit.report.variation import certificate_tables, variation_tables
from invkit.statistics.intervals import number

TEMPLATES = Path(__file__).parent / "templates"
GALLERY = 12

LIMITS = (
    "A denoiser outputs as many pixels as it takes in, so there need not be any image other than x with exactly the same "
    "activation: what hides depends on the tolerance. Compare every figure with that of the image itself at the same tolerance.",
    "Certified images are drawn under a Gaussian model of the noise of x; where the layer is not linear within the tolerance, "
    "the draws are approximate. A certificate, that no window of the activation differs by more, rests on the denoiser alone.",
    "Samples of a trained model are not proven to have the activation of x. Their spread is that of the model: what the layer "
    "cannot distinguish, what the VAE loses, what the conditioning of the flow loses of z, and what the flow has not learned.",
    "What was not tried may hide more: structures of other shapes, and other places.",
    "Figures for one image say nothing about other images. Intervals over patients need several patients.",
    "For research use only. Not a medical device, and not for decisions about patients.",
)
TARGET_LIMIT = (
    "Samples of the target domain are high-dose images that are plausible given z. They are not meant to "
    "have the activation of the low-dose image x."
)


@dataclass(frozen=True)
class Tile:
    """A figure that stands out."""

    label: str
    value: str
    unit: str
    range: str


@dataclass(frozen=True)
class Shown:
    """One image of the gallery."""

    kind: str
    name: str
    source: str
    alt: str


def render_html(data: ReportData, figures: Sequence[Plate] | None = None) -> str:
    """Return the report as a self-contained HTML page.

    Every text is escaped by Jinja2 and freed of control characters; the content security policy lets
    nothing run or load but the page's own style and script, named by their hashes, and images inside the
    page.

    Args:
        data: what to show.
        figures: the report's figures, if they were made already; `None` makes them.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, finalize=_finalize
    )
    environment.filters["ticks"] = _ticks
    style, script = (_text(name) for name in ("report.css", "report.js"))
    plots = [
        {
            "light": _uri(plate.png),
            "dark": _uri(plate.dark, "svg+xml"),
            "alt": plate.alt,
            "caption": plate.caption,
            "width": plate.width,
            "height": plate.height,
        }
        for plate in (plates(data) if figures is None else figures)
    ]
    low, high = data.window.limits
    page = environment.get_template("report.html.jinja").render(
        data=data,
        size=data.layers[0].x.shape,
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        tiles=_tiles(data.layers[0]) if len(data.layers) == 1 else [],
        plots=plots,
        galleries=[{"key": layer.key, "images": _gallery(layer, data)} for layer in data.layers],
        window=f"Shown from {number(low)} HU (black) to {number(high)} HU (white).",
        overview=overview([(layer.key, layer.metrics) for layer in data.layers]),
        tables=[
            (layer.key, rows(layer.metrics, data.others), references(layer.metrics)) for layer in data.layers
        ],
        varied={
            layer.key: [
                *certificate_tables(layer.certificates),
                *variation_tables(layer.metrics),
                *output_tables(layer.metrics),
            ]
            for layer in data.layers
        },
        config=json.dumps(jsonable(data.config), indent=2, ensure_ascii=False),
        limits=[*LIMITS, TARGET_LIMIT] if data.domain == "high" else LIMITS,
    )
    return page + "\n"


def _finalize(value: object) -> object:
    """Clean every text that the template prints; the page's own style and script are Markup."""
    return value if isinstance(value, Markup | int | float) else plain(value)


def _ticks(text: str) -> Markup:
    """Escape a text and set what stands between backticks as code."""
    parts = plain(text).split("`")
    if len(parts) % 2 == 0:
        return escape(plain(text))
    marked = (
        Markup("<code>{}</code>").format(part) if index % 2 else escape(part)
        for index, part in enumerate(parts)
    )
    return Markup("").join(marked)


def _text(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _uri(image: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64," + base64.b64encode(image).decode()


def _tiles(layer: LayerFigures) -> list[Tile]:
    tiles = []
    for key, of in shown_at(TILES).items():
        value = metric(layer.metrics, key)
        if value is None:
            continue
        middle, lowest, highest = value.numbers()
        bounds = f"{lowest} to {highest}" if value.known else ""
        tiles.append(Tile(of.label, middle, of.unit, bounds))
    return tiles


def _gallery(layer: LayerFigures, data: ReportData) -> list[Shown]:
    """Return x and what else samples are to be compared with, then the samples."""
    named: list[tuple[str, str, Image | None]] = [
        ("x", "x, low dose", layer.x),
        ("reference", "y, high dose", layer.reference),
        ("reconstruction", "Reconstruction of x", layer.reconstruction),
        ("output", "f(x)", layer.output),
    ]
    if layer.certified is not None:
        named += [
            ("certified", f"Certified {index + 1}", image) for index, image in enumerate(layer.certified)
        ]
        named.append(("mean", "Mean of the certified samples", layer.certified_mean))
    named.append(("mean", "Mean of all samples", layer.mean))
    count = GALLERY if len(data.layers) == 1 else GALLERY // 2
    named += [("sample", f"Sample {index + 1}", image) for index, image in enumerate(layer.samples[:count])]
    return [
        Shown(kind, name, _uri(windowed_png(image, data.window)), f"CT image: {name}, layer {layer.key}")
        for kind, name, image in named
        if image is not None
    ]
