"""`invkit layers MODEL`: where a denoiser can be split, and which of its layers are cuts."""

from __future__ import annotations

__all__ = ["register"]

from typing import TYPE_CHECKING, Annotated, Any

import typer

from invkit.cli.terminal.console import emit_json, emit_table, say
from invkit.cli.terminal.imports import importing
from invkit.cli.terminal.model import ChannelsOption, NormaliseOption, opened_model
from invkit.cli.terminal.options import JsonOption, ModelArgument, PluginOption, host_with

if TYPE_CHECKING:
    from invkit.split.listing import ListedLayer

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
        bool,
        typer.Option(
            "--modules", help="List all modules, too, and what functions return that no module stands for."
        ),
    ] = False,
    normalise: NormaliseOption = None,
    channels: ChannelsOption = None,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """List the layers of a denoiser: which are cuts, which are branches, and which sets of them are cuts."""
    opened = opened_model(model, plugin, normalise, channels)
    with importing():
        from invkit.denoisers.loaded import load_denoiser
        from invkit.split.listing import list_layers

    name = opened if isinstance(opened, str) else opened.name
    if isinstance(opened, str):
        spec, _ = host_with(plugin).denoiser(opened)
        opened = load_denoiser(spec, untrained_seed=0)
    listing = list_layers(opened)
    notes = {layer.key: layer.note for layer in opened.spec.layers}
    found: dict[str, Any] = {
        "layers": [_described(one, one.what, notes[one.layer]) for one in listing.own],
        "controls": [{"layer": key, "note": CONTROLS[key]} for key in CONTROLS],
    }
    if modules:
        found["modules"] = [
            _described(one, one.layer.removeprefix("module:"), one.what) for one in listing.others
        ]
    if json:
        emit_json(
            "invkit.layers/1",
            {"model": name, "size": listing.size, "unfollowed": listing.unfollowed, **found},
        )
        return
    shown = [*listing.own, *(listing.others if modules else ())]
    emit_table(
        ("layer", "module", "is", "z", "together a cut", "what"),
        [
            *(
                (
                    one.layer,
                    one.what if one.key else one.layer.removeprefix("module:"),
                    one.text,
                    "-" if one.shape is None else " x ".join(map(str, one.shape)),
                    one.set or "-",
                    notes[one.layer] if one.key else one.what,
                )
                for one in shown
            ),
            *((key, "-", "cut", "-", "-", note) for key, note in CONTROLS.items()),
        ],
    )
    say(f"z is of an image of {listing.size} x {listing.size} pixels")
    if listing.unfollowed:
        say(f"No sets were looked for, and cuts were found by trying: {listing.unfollowed}")
    if not modules:
        say(f"Any module will do as well: `invkit layers {name} --modules` lists them")


def _described(one: ListedLayer, module: str, note: str) -> dict[str, Any]:
    """Return a layer as JSON values."""
    return {
        "layer": one.layer,
        "module": module,
        "note": note,
        "kind": one.kind,
        "shape": None if one.shape is None else list(one.shape),
        "runs": one.runs,
        "set": one.set or None,
    }
