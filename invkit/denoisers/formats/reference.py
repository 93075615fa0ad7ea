"""What a user's words name: a file, a folder or an object to import, rather than a plugin's denoiser."""

from __future__ import annotations

__all__ = ["PROGRAM", "SUFFIXES", "is_reference"]

import re
from pathlib import Path

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".pt2", ".onnx")
PROGRAM = "program:"  # before a command line
IMPORT = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def is_reference(name: str) -> bool:
    """Return whether a name stands for a file, a folder, `module.path:name` or `program:COMMAND`; names of plugins never do."""
    path = Path(name)
    return (
        name.startswith(PROGRAM)
        or path.suffix.lower() in SUFFIXES
        or IMPORT.fullmatch(name) is not None
        or (("/" in name or "\\" in name) and path.is_dir())
    )
