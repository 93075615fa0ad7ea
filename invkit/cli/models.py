"""`invkit models`: the denoisers there are."""

from __future__ import annotations

__all__ = ["register"]

from typing import Any

import typer

from invkit.cli.console import emit_json, emit_table
from invkit.cli.options import JsonOption, PluginOption, host_with
from invkit.plugins.manager import PluginHost


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("models")(models)


def models(plugin: PluginOption = None, json: JsonOption = False) -> None:
    """List the denoisers, their weights and layers."""
    described = describe_models(host_with(plugin))
    if json:
        emit_json("invkit.models/1", {"models": described})
        return
    emit_table(
        ("model", "weights", "layers", "plugin", "about"),
        [
            (
                model["name"],
                ", ".join(weights["tag"] for weights in model["weights"]) or "-",
                ", ".join(model["layers"]) or "-",
                model["plugin"],
                model["description"] or model["citation"],
            )
            for model in described
        ],
    )


def describe_models(host: PluginHost) -> list[dict[str, Any]]:
    """Return every denoiser as JSON values."""
    return [
        {
            "name": spec.name,
            "plugin": host.owner("denoisers", spec.name),
            "description": spec.description,
            "citation": spec.citation,
            "trainable": spec.recipe is not None,
            "layers": [layer.key for layer in spec.layers],
            "weights": [
                {
                    "tag": weights.tag,
                    "sha256": weights.sha256,
                    "trained_on": weights.trained_on,
                    "license": weights.license,
                }
                for weights in spec.weights
            ],
        }
        for spec in host.denoisers().values()
    ]
