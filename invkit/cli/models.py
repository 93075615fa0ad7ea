"""`invkit models`: the denoisers there are, and weights that the user adds to them."""

from __future__ import annotations

__all__ = ["register"]

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from invkit.cli.terminal.console import emit_json, emit_table, emit_text, say
from invkit.cli.terminal.model import normalisation
from invkit.cli.terminal.options import JsonOption, PluginOption, host_with
from invkit.denoisers.weights.installed import Installed, installed, remove, with_installed
from invkit.errors import UsageError
from invkit.plugins.manager import PluginHost

if TYPE_CHECKING:
    from invkit.denoisers.spec import Denoiser

commands = typer.Typer(help="List denoisers; add and remove weights.", rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    app.add_typer(commands, name="models")


@commands.callback(invoke_without_command=True)
def without_command(context: typer.Context, plugin: PluginOption = None, json: JsonOption = False) -> None:
    """List denoisers; add and remove weights. Without a command, list them."""
    if context.invoked_subcommand is None:
        list_models(plugin, json)


@commands.command("list")
def list_models(plugin: PluginOption = None, json: JsonOption = False) -> None:
    """List the denoisers, their weights and layers."""
    described = describe_models(host_with(plugin))
    problems = installed()[1]
    if json:
        emit_json("invkit.models/1", {"models": described, "problems": problems})
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
    for problem in problems:
        say(problem)


@commands.command("add")
def add(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|URL", help="A .safetensors, .pt or .pth state dict, or the https URL of one."
        ),
    ],
    tag: Annotated[str, typer.Option("--tag", help="Tag of the weights, which are then called NAME.TAG.")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="The denoiser these weights are for.")
    ] = None,
    sha256: Annotated[
        str | None, typer.Option("--sha256", help="Checksum of the file; required for a URL.")
    ] = None,
    trained_on: Annotated[
        str | None, typer.Option("--trained-on", help="Training data, in one line of free text.")
    ] = None,
    terms: Annotated[str | None, typer.Option("--license", help="Licence of the weights.")] = None,
    normalise: Annotated[
        str | None,
        typer.Option("--normalise", metavar="MEAN,STD", help="Input normalisation in HU: (x - MEAN) / STD."),
    ] = None,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Add third-party weights, stored as safetensors under a permanent tag. No code in the file is run."""
    spec = chosen_denoiser(model, source, host_with(plugin))
    from invkit.denoisers.weights.install import install  # imports torch

    record, there = install(
        spec,
        source,
        tag,
        sha256=sha256,
        trained_on=trained_on,
        terms=terms,
        preprocessing=normalisation(normalise),
    )
    if json:
        emit_json("invkit.models.add/1", {**describe_added(record), "added": not there})
        return
    emit_text(f"{record.name}: {record.path}, sha256 of the source {record.meta['source_sha256']}")
    say(f"Already added: {record.name}" if there else f"Use it with `invkit analyze --model {record.name}`")


@commands.command("remove")
def remove_weights(
    name: Annotated[str, typer.Argument(metavar="NAME.TAG", help="Weights added with `invkit models add`.")],
    json: JsonOption = False,
) -> None:
    """Delete added weights. Their tag stays reserved and cannot name other weights later."""
    path = remove(name)
    if json:
        emit_json("invkit.models.remove/1", {"name": name, "removed": str(path)})
    else:
        emit_text(f"{name}: removed {path}")


def describe_models(host: PluginHost) -> list[dict[str, Any]]:
    """Return every denoiser as JSON values."""
    added = {record.path: record for record in installed()[0]}
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
                    "added": any(str(path) == weights.source for path in added),
                }
                for weights in spec.weights
            ],
        }
        for spec in map(with_installed, host.denoisers().values())
    ]


def describe_added(record: Installed) -> dict[str, Any]:
    """Return added weights as JSON values."""
    return {"name": record.name, "path": str(record.path.resolve()), "sha256": record.sha256, **record.meta}


def chosen_denoiser(model: str | None, source: str, host: PluginHost) -> Denoiser:
    """Return the denoiser that weights are for: the one named, or the one that the file says it was trained as.

    Raises:
        ArtifactError: none was named, and there is no such file.
        UsageError: none was named, and the file does not say; or a tag was named with it.
        UnknownNameError: there is no such denoiser.
    """
    if model is None:
        from invkit.denoisers.weights.install import stated_model  # imports torch

        model = None if "://" in source else stated_model(Path(source))
        if model is None:
            raise UsageError(
                f"{source} does not say which denoiser it is for: add --model with one of {', '.join(host.names('denoisers'))}"
            )
    if "." in model:
        raise UsageError(f"--model takes the denoiser only, got {model!r}; the tag goes in --tag")
    spec: Denoiser = host.find("denoisers", model)
    return spec
