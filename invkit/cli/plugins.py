"""`invkit plugins`: what is installed, whether it works, and the start of a new one."""

from __future__ import annotations

__all__ = ["register"]

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from invkit.cli.terminal.console import emit_json, emit_table, emit_text, say
from invkit.cli.terminal.model import NormaliseOption, normalisation
from invkit.cli.terminal.options import JsonOption, PluginOption, host_with
from invkit.errors import PluginError, UsageError
from invkit.plugins.skeleton import write_skeleton

commands = typer.Typer(help="List, check and create plugins.", rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    app.add_typer(commands, name="plugins")


@commands.callback(invoke_without_command=True)
def without_command(context: typer.Context, plugin: PluginOption = None, json: JsonOption = False) -> None:
    """List, check and create plugins. Without a command, list them."""
    if context.invoked_subcommand is None:
        list_plugins(plugin, json)


@commands.command("list")
def list_plugins(plugin: PluginOption = None, json: JsonOption = False) -> None:
    """List all plugins, including broken ones and why they fail."""
    reports = host_with(plugin).reports()
    if json:
        emit_json(
            "invkit.plugins/1", {"plugins": [{**vars(r), "provides": dict(r.provides)} for r in reports]}
        )
        return
    emit_table(
        ("plugin", "distribution", "version", "status", "provides"),
        [
            (
                report.name,
                report.distribution or "-",
                report.version or "-",
                report.status,
                "; ".join(f"{kind}: {', '.join(names)}" for kind, names in report.provides.items()) or "-",
            )
            for report in reports
        ],
    )
    for report in reports:
        if report.reason:
            say(f"{report.name}: {report.reason}")


@commands.command("check")
def check(
    name: Annotated[str, typer.Argument(help="Plugin or distribution name, or FILE[:ATTR].")],
    json: JsonOption = False,
) -> None:
    """Check everything a plugin provides against its contract."""
    from invkit.testing import check_plugin  # imports torch

    report = check_plugin(name)
    checks = [asdict(check) for check in report.checks]
    if json:
        emit_json(
            "invkit.plugins.check/1", {"plugin": report.name, "passed": report.passed, "checks": checks}
        )
    else:
        emit_table(
            ("of", "check", "result", "detail"),
            [(c.subject, c.name, "ok" if c.passed else "FAILED", c.detail) for c in report.checks],
        )
    if not report.passed:
        raise PluginError(
            f"plugin {report.name} breaks its contract: {len(report.failed)} of {len(checks)} checks failed"
        )


@commands.command("new")
def new(
    name: Annotated[str, typer.Argument(help="Name of the denoiser: lower-case letters, digits, `_`, `-`.")],
    folder: Annotated[Path | None, typer.Argument(help="Folder to create. Default: `invkit-NAME`.")] = None,
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="FILE.py:NAME", help="Class of your network, or a function for it."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="Its state dict, which is kept as safetensors.")
    ] = None,
    normalise: NormaliseOption = None,
    json: JsonOption = False,
) -> None:
    """Create a new plugin: a distribution of two files, and with --from your network, its weights and its layers."""
    place = folder or Path(f"invkit-{name}")
    if source is None:
        if weights is not None or normalise is not None:
            raise UsageError(
                "--weights and --normalise belong to a network: name it with --from FILE.py:NAME"
            )
        written = write_skeleton(name, place)
    else:
        from invkit.workflow.adopt import adopt  # imports torch

        written = adopt(name, source, place, weights=weights, preprocessing=normalisation(normalise))
    if json:
        emit_json("invkit.plugins.new/1", {"files": [str(path) for path in written]})
        return
    emit_text("\n".join(str(path) for path in written))
    say(f"Try it with `invkit plugins check {written[1].parent}`, install it with `pip install -e {place}`")
