"""`invkit convert`: a PyTorch state dict as safetensors."""

from __future__ import annotations

__all__ = ["register"]

from pathlib import Path
from typing import Annotated

import typer

from invkit.cli.terminal.console import emit_json, emit_text
from invkit.cli.terminal.options import JsonOption


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("convert")(convert)


def convert(
    source: Annotated[Path, typer.Argument(help="A .pt or .pth file with a state dict.")],
    target: Annotated[Path, typer.Argument(help="The safetensors file to write.")],
    json: JsonOption = False,
) -> None:
    """Convert a PyTorch state dict to safetensors; nothing in the file is run."""
    from invkit.artifacts import sha256_file
    from invkit.denoisers.weights.convert import convert_state_dict

    count, sha256 = convert_state_dict(source, target), sha256_file(target)
    if json:
        emit_json("invkit.convert/1", {"path": str(target.resolve()), "tensors": count, "sha256": sha256})
    else:
        emit_text(f"{target.resolve()}: {count} tensors, sha256 {sha256}")
