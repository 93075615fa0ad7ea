"""Runs a Python file that was named by its path; it may import what lies beside it, at any time and for itself alone."""

from __future__ import annotations

__all__ = ["import_file"]

import builtins
import hashlib
import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from invkit.errors import PluginError

PREFIX = "invkit_beside_"
ALWAYS_INSTALLED = sys.stdlib_module_names | {"invkit", "torch", "numpy"}


def import_file(path: Path) -> ModuleType:
    """Run a Python file as a module, `__init__.py` as its package.

    An import in it, also one inside a function, finds what lies beside the file first, as in a script. What it finds is a module of
    this folder: another file's sibling of the same name is another module, and neither stands in the way of anything installed.

    Args:
        path: absolute.
    """
    package = path.name == "__init__.py"
    file = path.parent if package else path
    folder = _folder(file.parent)
    name = f"{folder}.{file.stem.replace('.', '_')}"
    spec = spec_from_file_location(
        name,
        path,
        loader=_Loader(name, str(path)),
        submodule_search_locations=[str(file)] if package else None,
    )
    if spec is None or spec.loader is None:
        raise PluginError(f"{path} cannot be imported as a Python file")
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up by name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _folder(path: Path) -> str:
    """Return the name under which what lies in a folder is imported."""
    name = f"{PREFIX}{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if name not in sys.modules:
        sys.modules[name] = folder = ModuleType(name, f"What lies in {path}.")
        folder.__path__ = [str(path)]
        if _Finder not in sys.meta_path:
            sys.meta_path.insert(0, _Finder)
    return name


class _Finder:
    """Finds modules of such folders as usual, and gives them their own `import`."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not name.startswith(PREFIX) or "." not in name:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    """Runs a module with builtins in which `import` is its folder's."""

    def exec_module(self, module: ModuleType) -> None:
        folder = module.__name__.partition(".")[0]
        own = {**vars(builtins), "__import__": _Import(folder, Path(sys.modules[folder].__path__[0]))}
        vars(module)["__builtins__"] = own
        super().exec_module(module)


class _Import:
    """The `import` of the modules of a folder, called as `builtins.__import__` is."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path

    def __call__(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,  # noqa: A002
        locals: Mapping[str, Any] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        top = name.partition(".")[0]
        if level or not self._lies_here(top):
            return builtins.__import__(name, globals, locals, fromlist, level)
        full = f"{self.name}.{name}"
        if fromlist:
            return builtins.__import__(full, globals, locals, fromlist)
        importlib.import_module(full)
        return sys.modules[f"{self.name}.{top}"]

    def _lies_here(self, top: str) -> bool:
        if top in ALWAYS_INSTALLED:
            return False
        if (self.path / f"{top}.py").is_file() or (self.path / top / "__init__.py").is_file():
            return True
        # A folder of any name is a package only where nothing else is.
        return (self.path / top).is_dir() and top not in sys.modules and find_spec(top) is None
