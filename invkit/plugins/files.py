"""Plugins without packaging: a Python file, or an object, is turned into records."""

from __future__ import annotations

__all__ = ["at_home", "denoisers_of", "parse_reference", "plugin_files", "public_names"]

import copy
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from invkit.denoisers.spec import Affine, Denoiser
from invkit.errors import PluginError


def parse_reference(reference: str) -> tuple[Path, str | None]:
    """Split `FILE[:ATTRIBUTE]`; a package's folder stands for its `__init__.py`.

    Raises:
        PluginError: there is no such Python file.
    """
    path, attribute = Path(reference), None
    if not path.is_file():
        file, colon, name = reference.rpartition(":")
        if colon and name.isidentifier() and not path.is_dir():
            path, attribute = Path(file), name
    if path.is_dir() and (path / "__init__.py").is_file():
        path = path / "__init__.py"
    if path.suffix != ".py" or not path.is_file():
        raise PluginError(
            f"--plugin takes FILE.py or FILE.py:ATTRIBUTE, but there is no Python file {str(path)!r}"
        )
    return path.resolve(), attribute


def plugin_files(folder: Path) -> list[Path]:
    """Return the files of a folder, and its packages, in which the word `hookimpl` stands, by name; none of them is run."""
    found = []
    for path in sorted(folder.iterdir()):
        file = path / "__init__.py" if path.is_dir() else path
        if file.suffix == ".py" and file.is_file() and b"hookimpl" in file.read_bytes():
            found.append(file)
    return found


def denoisers_of(thing: object, name: str) -> list[Denoiser]:
    """Return what an attribute stands for: a Denoiser, several, a network, its class, a function for one.

    A bare network takes HU and gives HU; it is called `name`, and its layers have their module names.

    Raises:
        PluginError: it is nothing of the kind.
    """
    if isinstance(thing, Denoiser):
        return [thing]
    if isinstance(thing, list | tuple) and thing and all(isinstance(item, Denoiser) for item in thing):
        return list(thing)
    if is_network(thing):
        return [wrap(lambda: copy.deepcopy(thing), name)]
    if inspect.isclass(thing) and is_network_class(thing):
        return [wrap(thing, name)]
    if inspect.isroutine(thing):
        returned = thing()
        return [wrap(thing, name)] if is_network(returned) else denoisers_of(settled(returned, name), name)
    raise PluginError(
        f"{name!r} is a {type(thing).__name__}; it must be an invkit.Denoiser, a list of them, "
        "an nn.Module (class or object), or a function that returns one of these"
    )


def settled(returned: object, name: str) -> object:
    """Refuse a function that returns a function, so that the search ends."""
    if inspect.isroutine(returned):
        raise PluginError(f"{name}() returned a function; it must return an invkit.Denoiser or an nn.Module")
    return returned


def wrap(build: Callable[[], Any], name: str) -> Denoiser:
    """Describe a bare network as a denoiser from HU to HU."""
    readable = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-_") or "module"
    return Denoiser(
        name=readable,
        build=build,
        preprocessing=Affine(mean=0.0, std=1.0),
        description="a bare network, in HU",
    )


def at_home(denoiser: Denoiser, path: Path) -> Denoiser:
    """Return a denoiser of a package that is not installed, whose weights in `package:PACKAGE/...` lie in its own folder.

    Args:
        denoiser: what its hook returned.
        path: of the package's `__init__.py`; with that of any other file nothing changes.
    """
    if path.name != "__init__.py":
        return denoiser
    start = f"package:{path.parent.name}/"
    weights = tuple(
        replace(one, source=str(path.parent / one.source.removeprefix(start)))
        if one.source.startswith(start)
        else one
        for one in denoiser.weights
    )
    return replace(denoiser, weights=weights)


def public_names(module: object) -> list[str]:
    """Return the objects, classes and functions that a file defines itself."""
    own = vars(module)
    return [
        name
        for name, value in own.items()
        if not name.startswith("_")
        and not inspect.ismodule(value)
        and (not (inspect.isclass(value) or inspect.isroutine(value)) or value.__module__ == own["__name__"])
    ]


def is_network(thing: object) -> bool:
    """Return whether it is an nn.Module, without importing torch: without torch there are none."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(thing, torch.nn.Module)


def is_network_class(thing: type) -> bool:
    """Return whether it is a subclass of nn.Module."""
    torch = sys.modules.get("torch")
    return torch is not None and issubclass(thing, torch.nn.Module)
