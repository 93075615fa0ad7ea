"""`invkit presets`: the sizes and steps of trainings, as files to read, copy and change."""

from __future__ import annotations

__all__ = ["register"]

from pathlib import Path
from typing import Annotated

import typer

from invkit.cli.terminal.console import emit_json, emit_table, emit_text, say
from invkit.cli.terminal.options import JsonOption, PluginOption, host_with
from invkit.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("presets")(presets)


def presets(
    what: Annotated[str | None, typer.Argument(help="A denoiser, `vae` or `cinn`.")] = None,
    name: Annotated[str | None, typer.Argument(help="One of its presets, or a .toml file.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write the preset to a new .toml file.")
    ] = None,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """List the presets of denoisers, VAEs and cINNs, or print one as TOML."""
    host = host_with(plugin)
    from invkit.parts.preset_list import preset_list, preset_toml, preset_used

    if name is None:
        listed = preset_list(host)
        if what is not None and what not in listed:
            raise UsageError(f"there are no presets for {what!r}, only for: {', '.join(listed)}")
        chosen = {key: names for key, names in listed.items() if what in (None, key)}
        if json:
            emit_json("invkit.presets/1", {"presets": chosen})
            return
        emit_table(("for", "presets"), [(key, ", ".join(names)) for key, names in chosen.items()])
        say("`invkit presets FOR PRESET --out my.toml` writes one to edit; `--preset my.toml` trains with it")
        return
    assert what is not None
    if out is not None:
        if out.exists():
            raise UsageError(
                f"{out} exists already. Choose another name; existing files are never overwritten"
            )
        from invkit.artifacts import write_atomic

        write_atomic(out, preset_toml(host, what, name).encode())
        say(f"Wrote {out}: edit it, then train with `--preset {out}`")
    if json:
        emit_json("invkit.preset/1", {"for": what, "preset": name, "fields": preset_used(host, what, name)})
    elif out is None:
        emit_text(preset_toml(host, what, name).rstrip("\n"))
    else:
        emit_text(str(out.resolve()))
