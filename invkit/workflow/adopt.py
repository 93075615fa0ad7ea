"""Makes a plugin of a network that somebody has: its file, its weights, and the layers that were found in it."""

__all__ = ["adopt"]

import hashlib
import inspect
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from safetensors.torch import save

from invkit.denoisers.loaded import LoadedDenoiser, load_denoiser
from invkit.denoisers.spec import Affine, Denoiser
from invkit.denoisers.weights.read import load_into
from invkit.denoisers.weights.rename import fitted
from invkit.denoisers.weights.state import state_of
from invkit.errors import ArtifactError, PluginError, UsageError, described
from invkit.plugins.beside import import_file
from invkit.plugins.files import denoisers_of, parse_reference, public_names
from invkit.plugins.reports import listing
from invkit.plugins.skeleton import module_of, package_of, write_package
from invkit.split.listing import list_layers

WEIGHTS = """
            weights=(
                invkit.Weights(
                    tag="given",
                    source="package:{package}/{file}",
                    sha256="{sha256}",
                    trained_on="not stated",
                    license="not stated",
                ),
            ),"""


def adopt(
    name: str, source: str, folder: Path, *, weights: Path | None = None, preprocessing: Affine | None = None
) -> list[Path]:
    """Write a package for a network, and return the paths of its files.

    Its modules that are cuts or branches become its layers.

    Args:
        name: of the denoiser.
        source: `FILE.py:NAME`, a class, or a function that returns the network.
        folder: to write into; nothing in it is overwritten.
        weights: a state dict, kept as safetensors under the network's own names; without it the plugin has none.
        preprocessing: between HU and network units; HU themselves without it.

    Raises:
        UsageError: the name is none, a file exists, or the network's file imports what lies beside it.
        PluginError: the network cannot be made.
        ArtifactError: the weights cannot be read, or do not fit.
    """
    package = package_of(name)
    path, attribute = parse_reference(source)
    before = set(sys.modules)
    try:
        module = import_file(path)
    except Exception as error:
        raise PluginError(f"{path.name} cannot be imported: {described(error)}") from error
    thing = getattr(module, attribute or "", None)
    if attribute is None or not (inspect.isclass(thing) or inspect.isroutine(thing)):
        has = listing(public_names(module))
        raise UsageError(
            f"--from takes {path.name}:NAME, a class or a function that returns the network; it has: {has}"
        )
    units = preprocessing or Affine(mean=0.0, std=1.0)
    spec = replace(denoisers_of(thing, attribute)[0], name=name, preprocessing=units)
    loaded = load_denoiser(spec, untrained_seed=0)
    _refuse_siblings(module.__name__, path, before)
    others, stated = {path.name: path.read_bytes()}, ""
    if weights is not None:
        data, file = _converted(loaded, spec, weights), f"{package.removeprefix('invkit_')}.safetensors"
        others[file] = data
        stated = WEIGHTS.format(package=package, file=file, sha256=hashlib.sha256(data).hexdigest())
    code = module_of(
        name,
        f"from .{path.stem} import {attribute}",
        f"{attribute}()",
        _layers(loaded),
        mean=units.mean,
        std=units.std,
        weights=stated,
    )
    return write_package(name, folder, code, others)


def _layers(loaded: LoadedDenoiser) -> Sequence[tuple[str, str, str]]:
    """Return key, module and note of the modules that are cuts or branches, in the order of the forward pass."""
    modules = dict(loaded.network.named_modules())
    found = [(one.layer.removeprefix("module:"), one) for one in list_layers(loaded).others]
    chosen = [(name, one) for name, one in found if one.kind in ("cut", "branch") and name in modules]
    return [(str(number), name, f"{one.what}, a {one.kind}") for number, (name, one) in enumerate(chosen, 1)]


def _converted(loaded: LoadedDenoiser, spec: Denoiser, path: Path) -> bytes:
    """Return weights as a safetensors file, after they were put into the network."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"cannot read the weights {path}: {error.strerror or error}") from None
    tensors = fitted(state_of(data, label=path.name), spec, label=path.name).tensors
    load_into(loaded.network, tensors, owner=path.name)
    return save({key: tensor.contiguous() for key, tensor in tensors.items()})


def _refuse_siblings(name: str, path: Path, before: set[str]) -> None:
    folder = f"{name.rpartition('.')[0]}."
    beside = sorted(
        one.removeprefix(folder)
        for one, module in sys.modules.items()
        if one.startswith(folder) and one not in before and one != name and getattr(module, "__file__", None)
    )
    if beside:
        raise UsageError(
            f"{path.name} imports what lies beside it ({', '.join(beside)}), which an installed package cannot: put it into one "
            "file, or make a package of them by hand, with relative imports"
        )
