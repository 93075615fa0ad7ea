"""The start of a plugin: a distribution of two files, written for `invkit plugins new`."""

from __future__ import annotations

__all__ = ["write_skeleton"]

from pathlib import Path

from invkit._version import __version__
from invkit.denoisers.spec import NAME
from invkit.errors import ResourceError, UsageError

PYPROJECT = """[build-system]
requires = ["hatchling>=1.26"]
build-backend = "hatchling.build"

[project]
name = "invkit-{name}"
version = "0.1.0"
description = "The denoiser {name} as a plugin of invkit."
requires-python = ">=3.11"
dependencies = ["invkit>={this},<{next}", "torch>=2.10"]

[project.entry-points.invkit]
{name} = "{module}"

# All that lies in the package is in the wheel, trained weights too.
[tool.hatch.build.targets.wheel]
packages = ["{module}"]
"""

MODULE = '''"""The denoiser {name} as a plugin of invkit."""

import invkit


def build():
    """Make the network, from (B, 1, H, W) to the same shape, in network units."""
    from torch import nn  # here and not above: listing plugins must not import torch

    return nn.Sequential(
        nn.Conv2d(1, 16, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 1, 3, padding=1),
    )


@invkit.hookimpl
def invkit_denoisers():
    """Return the denoiser; its layers are where `invkit analyze --layer KEY` splits it."""
    return [
        invkit.Denoiser(
            name="{name}",
            build=build,
            preprocessing=invkit.Affine(mean=0.0, std=1000.0),
            layers=(
                invkit.Layer("1", module="0", note="conv 5x5x16, before ReLU"),
                invkit.Layer("2", module="2", note="conv 3x3x16, before ReLU"),
            ),
        )
    ]
'''


def write_skeleton(name: str, folder: Path) -> tuple[Path, Path]:
    """Write `pyproject.toml` and a package of one module into a new folder and return their paths.

    Raises:
        UsageError: the name is none for a denoiser, or one of the files exists.
        ResourceError: the folder cannot be written.
    """
    if not NAME.fullmatch(name):
        raise UsageError(f"plugin name {name!r} must match {NAME.pattern}")
    module = f"invkit_{name.replace('-', '_')}"
    major, minor = (int(part) for part in __version__.split(".")[:2])
    filled = {"name": name, "module": module, "this": f"{major}.{minor}", "next": f"{major}.{minor + 1}"}
    files = {folder / "pyproject.toml": PYPROJECT, folder / module / "__init__.py": MODULE}
    try:
        (folder / module).mkdir(parents=True, exist_ok=True)
        for path, template in files.items():
            with path.open("x", encoding="utf-8") as stream:
                stream.write(template.format(**filled))
    except FileExistsError as error:
        raise UsageError(
            f"{error.filename} already exists and is not overwritten. Choose another folder"
        ) from None
    except OSError as error:
        raise ResourceError(f"cannot write into {folder}: {error.strerror}. Choose another folder") from None
    first, second = files
    return first, second
