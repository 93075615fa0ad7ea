"""Options that several commands share, and what they stand for."""

from __future__ import annotations

__all__ = [
    "JsonOption",
    "ModelArgument",
    "PluginOption",
    "chosen_model",
    "host_with",
]

from collections.abc import Sequence
from typing import Annotated

import typer

from invkit.errors import UsageError
from invkit.plugins.manager import PluginHost, default_host

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
ModelArgument = Annotated[
    str | None,
    typer.Argument(
        help="Denoiser, `arch` or `arch.tag`; a file or module.path:name. Default: the one from --plugin."
    ),
]
PluginOption = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        metavar="FILE[:ATTR]",
        help="Load a plugin (denoisers, samplers, metrics, ...) from a Python file; may be repeated.",
    ),
]


def host_with(plugins: Sequence[str] | None) -> PluginHost:
    """Return the process's plugin host, with the files of `--plugin` added."""
    host = default_host()
    for reference in plugins or ():
        host.add_file(reference)
    return host


def chosen_model(model: str | None, plugins: Sequence[str] | None) -> str:
    """Return the model's name: the one given, or else the only denoiser that the `--plugin` files bring.

    Raises:
        UsageError: none was given, and `--plugin` brings none or several.
        UnknownNameError: there is no such denoiser.
    """
    host = host_with(plugins)
    if model is None:
        brought = [
            name
            for reference in plugins or ()
            for name in host.add_file(reference).provides.get("denoisers", ())
        ]
        if len(brought) != 1:
            found = f"--plugin provides {len(brought)}" if plugins else "no --plugin was given"
            raise UsageError(
                f"name a model, one of {', '.join(brought or sorted(host.names('denoisers')))}; {found}"
            )
        model = brought[0]
    host.denoiser(model)
    return model
