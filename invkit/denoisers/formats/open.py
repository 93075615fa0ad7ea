"""Opens whatever a user has as a denoiser: a file, a folder, an import, a function."""

__all__ = ["open_model"]

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from invkit.denoisers.formats.checkpoint import from_checkpoint
from invkit.denoisers.formats.exported import from_exported
from invkit.denoisers.formats.folder import diffusers_class, from_diffusers, only_file
from invkit.denoisers.formats.found import Found
from invkit.denoisers.formats.onnx import from_onnx
from invkit.denoisers.formats.program import from_program
from invkit.denoisers.formats.python import from_callable, from_import
from invkit.denoisers.formats.reference import PROGRAM, SUFFIXES
from invkit.denoisers.formats.script import from_script, is_script
from invkit.denoisers.loaded import LoadedDenoiser, load_denoiser, wrap_module
from invkit.denoisers.spec import Call, Denoiser, Preprocessing
from invkit.errors import ArtifactError, UsageError


def open_model(
    thing: str | Path | Callable[..., Any],
    *,
    preprocessing: Preprocessing | None = None,
    call: Call | None = None,
    channels: int | None = None,
    device: torch.device | str = "cpu",
) -> LoadedDenoiser:
    """Return a denoiser from what a user has.

    Args:
        thing: a path of a file or folder, `module.path:name`, a class, a function.
        preprocessing: between HU and the network's units; needed for a file or folder, which says nothing of HU. What Python
            makes takes HU by default.
        call: how the network is called, where its file does not say so.
        channels: of the network's input, where its file does not say so.
        device: where to put it.

    Raises:
        UsageError: the units are not said, there is no such file, or a package is missing.
        InvkitError: it cannot be used; the message says why.
    """
    if isinstance(thing, str) and thing.startswith(PROGRAM):
        name, found = "program", from_program(thing)
    elif isinstance(thing, str | Path) and (isinstance(thing, Path) or not _is_import(thing)):
        path = Path(thing).expanduser()
        if not path.exists():
            raise ArtifactError(f"there is no file or folder {path}")
        if preprocessing is None:
            raise UsageError(
                f"{path.name} does not say which units its network takes: --normalise MEAN,STD, or "
                "preprocessing=invkit.Affine(mean, std), for (HU - MEAN) / STD. That is 0,1 for HU itself, -1024,4095 for 0 to "
                "1 from -1024 to 3071 HU"
            )
        name, found = path.stem, _from_path(path, device)
    else:
        made = from_import(thing) if isinstance(thing, str) else thing
        name = str(
            getattr(made, "__name__", None) or getattr(getattr(made, "func", None), "__name__", "function")
        )
        if isinstance(made, LoadedDenoiser):
            return made
        if isinstance(made, Denoiser):
            return load_denoiser(made, device=device)
        if not callable(made):
            raise UsageError(f"{thing} is a {type(made).__name__}, neither a network nor a function")
        found = Found(made) if isinstance(made, nn.Module) else from_callable(made, name)
    return wrap_module(
        found.network.to(device),
        name=re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-_") or "module",
        preprocessing=preprocessing,
        size_multiple=found.size_multiple,
        channels=channels or found.channels,
        call=call or found.call,
    )


def _is_import(thing: str) -> bool:
    return ":" in thing and not Path(thing).suffix.lower().startswith(SUFFIXES) and not Path(thing).exists()


def _from_path(path: Path, device: torch.device | str) -> Found:
    if path.is_dir():
        written = diffusers_class(path)
        return from_diffusers(path, written) if written else _from_path(only_file(path), device)
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        return from_onnx(path)
    if suffix == ".pt2":
        return from_exported(path)
    if suffix in SUFFIXES:
        return from_script(path, device) if is_script(path) else from_checkpoint(path)
    raise UsageError(f"{path.name} is none of {', '.join(SUFFIXES)}")
