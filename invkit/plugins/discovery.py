"""Finds installed plugins by the entry-point group `invkit`, without importing any of them."""

from __future__ import annotations

__all__ = ["GROUP", "FoundPlugin", "find_plugins"]

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, distributions

from invkit._version import __version__
from invkit.errors import described

GROUP = "invkit"


@dataclass(frozen=True)
class FoundPlugin:
    """An entry point of the group `invkit`, and why it cannot be used as far as metadata tell.

    `problem` is empty where nothing speaks against loading it; `incompatible`: the problem is the version.
    """

    name: str
    distribution: str
    version: str
    entry_point: EntryPoint | None
    problem: str = ""
    incompatible: bool = False


def find_plugins() -> list[FoundPlugin]:
    """Return every installed plugin by distribution and name; a broken distribution gives a problem."""
    found: list[FoundPlugin] = []
    seen: set[str] = set()
    for distribution in distributions():
        try:
            text = distribution.read_text("entry_points.txt")
        except (OSError, ValueError):
            continue  # not readable, so not known to be ours
        if not text or not re.search(rf"^\s*\[\s*{GROUP}\s*\]", text, re.MULTILINE):
            continue
        name = distribution_name(distribution)
        if name not in seen:  # the first on the path shadows the others, as in an import
            seen.add(name)
            found.extend(plugins_of(distribution, name))
    return sorted(found, key=lambda plugin: (plugin.distribution, plugin.name))


def plugins_of(distribution: Distribution, name: str) -> Iterator[FoundPlugin]:
    """Yield the plugins of one distribution."""
    version = ""
    try:
        version = str(distribution.metadata["Version"] or "")
        entry_points = [entry for entry in distribution.entry_points if entry.group == GROUP]
        problem = version_problem(distribution)
    except Exception as error:
        yield FoundPlugin(name, name, version, None, f"its metadata cannot be read: {described(error)}")
        return
    for entry in entry_points:
        yield FoundPlugin(entry.name, name, version, entry, problem, incompatible=bool(problem))


def distribution_name(distribution: Distribution) -> str:
    """Return a distribution's normalised name; where its metadata have none, that of its folder."""
    try:
        name = distribution.metadata["Name"]
    except Exception:
        name = None
    if not name:
        name = (
            str(getattr(distribution, "_path", "unknown")).replace("\\", "/").rsplit("/", 1)[-1].split("-")[0]
        )
    return re.sub(r"[-_.]+", "-", name).lower()


def version_problem(distribution: Distribution) -> str:
    """Return why a distribution does not fit this version of invkit, or an empty string."""
    from packaging.requirements import Requirement  # costs 10 ms, only where a plugin is installed

    for text in distribution.requires or ():
        requirement = Requirement(text)
        if requirement.name.lower() != "invkit" or (
            requirement.marker and not requirement.marker.evaluate({"extra": ""})
        ):
            continue
        if not requirement.specifier.contains(__version__, prereleases=True):
            return (
                f"it needs invkit{requirement.specifier}, this is invkit {__version__}. "
                "Install a version of the plugin that fits, or another invkit"
            )
    return ""
