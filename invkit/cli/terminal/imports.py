"""Importing much at once."""

from __future__ import annotations

__all__ = ["importing"]

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Let imports run without looking for garbage, and what they made never be searched for it later.

    Imports make a million objects and hardly any garbage, and Python goes through all of them again and again:
    a quarter of the time that imports take.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
