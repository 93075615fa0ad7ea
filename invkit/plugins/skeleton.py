"""The start of a plugin: a distribution of two files, written for `invkit plugins new`."""

from __future__ import annotations

__all__ = ["module_of", "package_of", "write_package", "write_skeleton"]

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

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
    {network}  # here and not above: listing plugins must not import torch

    return {made}


@invkit.hookimpl
def invkit_denoisers():
    """Return the denoiser; its layers are where `invkit analyze --layer KEY` splits it."""
    return [
        invkit.Denoiser(
            name="{name}",
            build=build,
            preprocessing=invkit.Affine(mean={mean!r}, std={std!r}),
            layers=(
{layers}
            ),{weights}
        )
    ]
'''
LAYER = "                invkit.Layer({}, module={}, note={}),"
EXAMPLE = """nn.Sequential(
        nn.Conv2d(1, 16, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 1, 3, padding=1),
    )"""
EXAMPLE_LAYERS = ("1", "0", "conv 5x5x16, before ReLU"), ("2", "2", "conv 3x3x16, before ReLU")


def write_skeleton(name: str, folder: Path) -> list[Path]:
    """Write `pyproject.toml` and a package of one module into a new folder and return their paths.

    Raises:
        UsageError: the name is none for a denoiser, or one of the files exists.
        ResourceError: the folder cannot be written.
    """
    code = module_of(name, "from torch import nn", EXAMPLE, EXAMPLE_LAYERS, mean=0.0, std=1000.0)
    return write_package(name, folder, code)


def module_of(
    name: str,
    network: str,
    made: str,
    layers: Sequence[tuple[str, str, str]],
    *,
    mean: float,
    std: float,
    weights: str = "",
) -> str:
    """Return the code of a denoiser's plugin.

    Args:
        name: of the denoiser.
        network: the import that its network needs.
        made: the expression that makes it.
        layers: key, module and note of each.
        mean: of its preprocessing, HU.
        std: likewise.
        weights: the line that states them, with its line break.
    """
    lines = "\n".join(LAYER.format(*(json.dumps(text) for text in layer)) for layer in layers)
    return MODULE.format(
        name=name, network=network, made=made, layers=lines, mean=mean, std=std, weights=weights
    )


def package_of(name: str) -> str:
    """Return the name of a denoiser's package.

    Raises:
        UsageError: the name is none for a denoiser.
    """
    if not NAME.fullmatch(name):
        raise UsageError(f"plugin name {name!r} must match {NAME.pattern}")
    return f"invkit_{name.replace('-', '_')}"


def write_package(
    name: str, folder: Path, code: str, others: Mapping[str, bytes] = MappingProxyType({})
) -> list[Path]:
    """Write a distribution of one package and return the paths of its files.

    Args:
        name: of the denoiser.
        folder: to write into; nothing in it is overwritten.
        code: of the package's `__init__.py`.
        others: files that lie beside it, by name.

    Raises:
        UsageError: the name is none for a denoiser, or one of the files exists.
        ResourceError: the folder cannot be written.
    """
    package = package_of(name)
    major, minor = (int(part) for part in __version__.split(".")[:2])
    project = PYPROJECT.format(
        name=name, module=package, this=f"{major}.{minor}", next=f"{major}.{minor + 1}"
    )
    files = {
        folder / "pyproject.toml": project.encode(),
        folder / package / "__init__.py": code.encode(),
        **{folder / package / other: data for other, data in others.items()},
    }
    try:
        (folder / package).mkdir(parents=True, exist_ok=True)
        for path, data in files.items():
            with path.open("xb") as stream:
                stream.write(data)
    except FileExistsError as error:
        raise UsageError(
            f"{error.filename} already exists and is not overwritten. Choose another folder"
        ) from None
    except OSError as error:
        raise ResourceError(f"cannot write into {folder}: {error.strerror}. Choose another folder") from None
    return list(files)
