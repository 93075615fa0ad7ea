"""Arrays that are kept in a folder between runs, to save time only."""

__all__ = ["keep_array"]

import os
import tempfile
from pathlib import Path

import numpy as np


def keep_array(path: Path, array: np.ndarray) -> None:
    """Write an array as `.npy`, beside and moved, so that another process sees all of the file or none.

    Nothing happens where it cannot be written: a full disk must not end a training.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        try:
            with os.fdopen(descriptor, "wb") as stream:
                np.save(stream, array)
            os.replace(temporary, path)
        except OSError:
            os.unlink(temporary)
    except OSError:
        return
