"""A report on disk: report.html, report.json, and the figures as PNG and SVG."""

__all__ = ["ReportPaths", "report_json", "write_report"]

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from invkit.artifacts import write_atomic
from invkit.report.data import ReportData, jsonable
from invkit.report.html import render_html
from invkit.report.plates import plates

SCHEMA = "invkit.report/1"


@dataclass(frozen=True)
class ReportPaths:
    """Where the parts of a report lie."""

    html: Path
    json: Path
    figures: tuple[Path, ...]


def report_json(data: ReportData) -> dict[str, Any]:
    """Return what the report says as JSON values, without its images.

    `metrics` holds the figures of the layer where there is one, and `layers` those of all.
    """
    layers = [
        {"key": layer.key, "note": layer.note, "metrics": layer.metrics, "conclusion": layer.conclusion}
        for layer in data.layers
    ]
    single = {"layer": layers[0]["key"], "metrics": layers[0]["metrics"]} if len(layers) == 1 else {}
    described: dict[str, Any] = jsonable(
        {
            "schema": SCHEMA,
            "model": data.model,
            **single,
            "layers": layers,
            "domain": data.domain,
            "image": data.image,
            "samples": data.samples,
            "answer": data.answer,
            "verdict": data.verdict,
            "samples_title": data.samples_title,
            "said_of_samples": data.said_of_samples,
            "warnings": data.warnings,
            "sections": [{"title": section.title, "text": section.text} for section in data.sections],
            "provenance": data.provenance,
            "command": data.command,
            "created": data.created,
            "config": data.config,
            "versions": data.versions,
            "sha256": data.hashes,
            "window_hu": {"center": data.window.center, "width": data.window.width},
        }
    )
    return described


def write_report(folder: Path, data: ReportData) -> ReportPaths:
    """Write `report.html`, `report.json` and `figures/` to a folder, each file atomically.

    File names are ours alone: nothing of the data becomes part of a path.

    Raises:
        ResourceError: the folder cannot be written or the disk is full.
    """
    figures = plates(data)
    paths, hashes = [], {}
    for plate in figures:
        for kind, content in (("png", plate.png), ("svg", plate.svg)):
            path = folder / "figures" / f"{plate.name}.{kind}"
            write_atomic(path, content)
            paths.append(path)
            hashes[path.relative_to(folder).as_posix()] = hashlib.sha256(content).hexdigest()
    described = {**report_json(data), "figures": hashes}
    html, json_path = folder / "report.html", folder / "report.json"
    write_atomic(json_path, (json.dumps(described, indent=1, allow_nan=False) + "\n").encode())
    write_atomic(html, render_html(data, figures).encode())
    return ReportPaths(html, json_path, tuple(paths))
