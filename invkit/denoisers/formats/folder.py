"""A folder that holds one model: a file that is known, or what diffusers writes with `save_pretrained`."""

__all__ = ["diffusers_class", "from_diffusers", "only_file"]

import inspect
import json
from pathlib import Path
from typing import Any

from invkit.denoisers.formats.found import Found, channels_of
from invkit.denoisers.formats.reference import SUFFIXES
from invkit.denoisers.spec import Call
from invkit.errors import ArtifactError, UsageError


def diffusers_class(folder: Path) -> str | None:
    """Return which class of diffusers wrote a folder; `None` where none did."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return None
    name = config.get("_class_name") if isinstance(config, dict) else None
    return name if isinstance(name, str) else None


def from_diffusers(folder: Path, name: str) -> Found:
    """Return a network that diffusers saved, from its safetensors; at time 0, where it takes one.

    Raises:
        UsageError: diffusers is not installed.
        ArtifactError: it has no such class, or the files do not fit.
    """
    try:
        import diffusers
    except ImportError as error:
        raise UsageError(f"{folder} was written by diffusers: pip install diffusers ({error})") from None
    made: Any = getattr(diffusers, name, None)
    if not (inspect.isclass(made) and hasattr(made, "from_pretrained")):
        raise ArtifactError(f"{folder}/config.json names the class {name!r}, which diffusers does not have")
    try:
        network = made.from_pretrained(str(folder), local_files_only=True, use_safetensors=True)
    except Exception as error:
        raise ArtifactError(f"{folder} cannot be loaded by diffusers: {str(error)[:300]}") from None
    channels, call = channels_of(int(network.config.in_channels), owner=str(folder))
    timed = Call(arguments={"timestep": 0}, output="sample", slices=call.slices)
    return Found(network.float().eval().requires_grad_(False), channels, timed)


def only_file(folder: Path) -> Path:
    """Return the one file with a model in a folder.

    Raises:
        ArtifactError: there is none, or more than one.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if len(files) != 1:
        listed = ", ".join(path.name for path in files[:5]) or "none"
        raise ArtifactError(
            f"{folder} must hold one file with a model ({', '.join(SUFFIXES)}), it holds {listed}: name the file"
        )
    return files[0]
