"""TorchScript: a network that runs no hooks, so it is used as a whole."""

__all__ = ["from_script", "is_script"]

import zipfile
from pathlib import Path

import torch

from invkit.artifacts import sha256_file
from invkit.denoisers.formats.found import Found
from invkit.denoisers.formats.opaque import Opaque
from invkit.errors import ArtifactError


def is_script(path: Path) -> bool:
    """Return whether a file is a TorchScript archive, whatever its suffix."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.partition("/")[2] == "constants.pkl" for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def from_script(path: Path, device: torch.device | str) -> Found:
    """Return a TorchScript file as a denoiser whose only layer is `output`; gradients of it reach the image.

    Raises:
        ArtifactError: it cannot be read.
    """
    try:
        script = torch.jit.load(str(path), map_location=device).eval()
    except Exception as error:
        raise ArtifactError(f"{path.name} cannot be loaded as TorchScript: {str(error)[:300]}") from None
    for parameter in script.parameters():
        parameter.requires_grad_(False)
    dtype = next((p.dtype for p in script.parameters() if p.is_floating_point()), torch.float32)
    return Found(Opaque(script, sha256_file(path), dtype=dtype))
