import hashlib
import importlib
import sys
from textwrap import dedent

import pytest


class Site:
    """A folder on sys.path that holds made-up distributions."""

    def __init__(self, folder):
        self.folder = folder

    def add(
        self, name, code="", *, entry=None, requires=("invkit>=0.1,<0.2",), version="1.0", entry_points=None
    ):
        """Put a distribution `name` with the module `fake_<name>` there."""
        module = f"fake_{name.replace('-', '_')}"
        (self.folder / f"{module}.py").write_text(dedent(code))
        info = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (info / "METADATA").write_text(metadata + "".join(f"Requires-Dist: {text}\n" for text in requires))
        (info / "entry_points.txt").write_text(entry_points or f"[invkit]\n{name} = {entry or module}\n")
        importlib.invalidate_caches()

    def record(self, name, *, version="1.0", editable=False, files=None):
        """Let a distribution state its files and their hashes, as an installation does."""
        module = f"fake_{name.replace('-', '_')}"
        code = (self.folder / f"{module}.py").read_bytes()
        info = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        lines = files or [f"{module}.py,sha256={hashlib.sha256(code).hexdigest()},{len(code)}"]
        (info / "RECORD").write_text("\n".join(lines) + "\n")
        if editable:
            (info / "direct_url.json").write_text('{"url": "file:///x", "dir_info": {"editable": true}}')


@pytest.fixture
def site(tmp_path, monkeypatch):
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield Site(folder)
    for name in set(sys.modules) - before:
        if name.startswith("fake_"):
            del sys.modules[name]


GOOD = """
    import invkit

    def build():
        from torch import nn
        return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1))

    def denoiser(name):
        return invkit.Denoiser(name=name, build=build, preprocessing=invkit.Affine(mean=0.0, std=1000.0),
                               layers=(invkit.Layer("1", module="0"),))

    @invkit.hookimpl
    def invkit_denoisers():
        return [denoiser("NAME")]
"""


@pytest.fixture
def good():
    """Return the code of a plugin with one denoiser of a given name."""
    return lambda name, more="": dedent(GOOD).replace("NAME", name) + dedent(more)
