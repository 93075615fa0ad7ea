"""How a plugin is reported, and how an unknown name is answered."""

from __future__ import annotations

__all__ = ["PluginReport", "Status", "listing", "unknown"]

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Status = Literal["ok", "partial", "broken", "incompatible"]


@dataclass(frozen=True)
class PluginReport:
    """One plugin as `invkit plugins` lists it.

    Args:
        name: of the entry point, or of the file.
        distribution: that brought it; empty for a file.
        version: of the distribution.
        status: `"ok"`; `"partial"`: some of it was refused; `"broken"`: nothing of it is used;
            `"incompatible"`: it asks for another version of invkit and was not imported.
        reason: what went wrong, empty where all is well.
        provides: names by kind, e.g. `{"denoisers": ("chen2017",)}`.
        printed: what it printed while it was loaded.
    """

    name: str
    distribution: str = ""
    version: str = ""
    status: Status = "ok"
    reason: str = ""
    provides: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    printed: str = ""


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Return "there is no WHAT NAME", the nearest name, and all there are."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"there is no {what} {name!r}{hint} There are: {listing(known)}"


def listing(names: Iterable[str]) -> str:
    """Return names as one comma-separated line."""
    return ", ".join(sorted(names)) or "none"
