"""`invkit layers MODEL`: where a denoiser can be split."""

from __future__ import annotations

__all__ = ["register"]

from typing import Annotated

import typer

from invkit.cli.terminal.console import emit_json, emit_table, say
from invkit.cli.terminal.options import JsonOption, ModelArgument, PluginOption, chosen_model, host_with
from invkit.denoisers.spec import Denoiser

CONTROLS = {
    "input": "control: z is the image itself",
    "output": "control: z is the network's output",
    "const": "control: z is constant",
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("layers")(layers)


def layers(
    model: ModelArgument = None,
    modules: Annotated[
        bool, typer.Option("--modules", help="Build the network and list all its modules.")
    ] = False,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """List the layers of a denoiser: the keys that its plugin defines, and the controls."""
    name = chosen_model(model, plugin)
    spec, _ = host_with(plugin).denoiser(name)
    found = {
        "layers": describe_layers(spec),
        "controls": [{"layer": key, "note": CONTROLS[key]} for key in CONTROLS],
    }
    if modules:
        found["modules"] = describe_modules(spec)
    if json:
        emit_json("invkit.layers/1", {"model": name, **found})
        return
    emit_table(
        ("layer", "module", "what"),
        [
            (row["layer"], row.get("module", "-"), row.get("note", ""))
            for row in (*found["layers"], *found["controls"], *found.get("modules", ()))
        ],
    )
    if not modules:
        say(f"Any module will do as well: `invkit layers {name} --modules` lists them")


def describe_layers(spec: Denoiser) -> list[dict[str, str]]:
    """Return the plugin's keys as JSON values."""
    return [{"layer": layer.key, "module": layer.module, "note": layer.note} for layer in spec.layers]


def describe_modules(spec: Denoiser) -> list[dict[str, str]]:
    """Return the modules of the network, built without its weights."""
    from invkit.denoisers.loaded import load_denoiser  # imports torch

    network = load_denoiser(spec, untrained_seed=0).network
    return [
        {"layer": f"module:{name}", "module": name, "note": type(module).__name__}
        for name, module in network.named_modules()
        if name
    ]
