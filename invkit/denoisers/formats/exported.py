"""Programs of torch.export, `.pt2`, with the modules that they were made from."""

__all__ = ["from_exported"]

import io
import json
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from invkit.artifacts import sha256_file
from invkit.denoisers.formats.found import Found, channels_of
from invkit.denoisers.formats.opaque import Opaque
from invkit.errors import ArtifactError

FREE = 48  # pixels a side of the image that is tried where sides are free
# Operations of tensors and arithmetic of sizes. Other names would be looked up in torch, and through it in all of Python.
OPERATIONS = re.compile(
    r"torch\.ops\.(aten|prims|quantized_decomposed)\.\w+(\.\w+)?|_operator\.\w+|math\.\w+|torch\.sym_\w+"
)


def from_exported(path: Path) -> Found:
    """Return the network of a `.pt2` file; one in which a single image was folded in has no layer but `output`.

    `torch.export.load` unpickles, so a file with anything to unpickle but plain tensors is refused before.

    Raises:
        ArtifactError: it cannot be read, or holds pickled objects or operations that are none of tensors.
    """
    _require_harmless(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch about itself
            program = torch.export.load(path)
            network = torch.export.unflatten(program)
    except Exception as error:
        raise ArtifactError(
            f"{path.name} cannot be loaded: {type(error).__name__}: {str(error)[:300]}"
        ) from None
    for module in network.modules():
        # What the export noted of shapes: nothing reads it any more, and it cannot be copied.
        for node in getattr(module, "graph", torch.fx.Graph()).nodes:
            node.meta.clear()
    _, channels, height, width = _shape(program, path)
    if height != width:
        raise ArtifactError(
            f"{path.name} was exported for images of {height} x {width} pixels alone: export it with dynamic_shapes"
        )
    count, call = channels_of(channels or 1, owner=path.name)
    found: nn.Module = network.requires_grad_(False)
    if not _takes_two(found, channels or 1, height or FREE):
        # What was folded for one image stays so: it is run as a whole, each image alone.
        found = Opaque(
            program.module(check_guards=False), sha256_file(path), single=True, dtype=torch.float32
        )
    return Found(found, count, call, height)


def _shape(program: Any, path: Path) -> tuple[int | None, ...]:
    """Return the sizes of the image that a program takes; `None` where any will do."""
    names = program.graph_signature.user_inputs
    (image, *others) = [node for node in program.graph.nodes if node.name in names]
    shape = tuple(image.meta["val"].shape)
    if others or len(shape) != 4:
        raise ArtifactError(
            f"{path.name} takes {1 + len(others)} input(s), the first of {len(shape)} axes; a denoiser takes one of (B, C, H, W)"
        )
    return tuple(side if isinstance(side, int) else None for side in shape)


def _takes_two(network: nn.Module, channels: int, side: int) -> bool:
    x = torch.rand((2, channels, side, side), generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            both, each = network(x), torch.cat([network(one) for one in x.split(1)])
    except Exception:
        return False
    return isinstance(both, Tensor) and both.shape == each.shape and torch.allclose(both, each, atol=1e-5)


def _require_harmless(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            reasons = list(_reasons(archive, names))
    except (OSError, zipfile.BadZipFile, ValueError, KeyError) as error:
        raise ArtifactError(f"{path.name} is no readable .pt2 archive: {error}") from None
    if not any(name.endswith("archive_format") for name in names):
        raise ArtifactError(f"{path.name} is no .pt2 archive of torch 2.8 or later: export it again")
    if reasons:
        raise ArtifactError(
            f"{path.name} is refused, for loading it could run any code: it holds {reasons[0]}"
        )


def _reasons(archive: zipfile.ZipFile, names: list[str]) -> Iterator[str]:
    for name in names:
        inside = name.partition("/")[2]
        if inside.startswith("data/sample_inputs/"):
            data = archive.read(name)
            try:
                torch.load(io.BytesIO(data), weights_only=True)
            except Exception:
                yield f"pickled objects in {inside}"
        elif inside.startswith(("data/weights/", "data/constants/")) and inside.endswith(".pt"):
            yield f"pickled objects in {inside}"
        elif inside.startswith("data/aotinductor"):
            yield "compiled code"
        elif inside.endswith("_config.json"):
            config = json.loads(archive.read(name))["config"]
            for entry in config.values():
                if entry["use_pickle"] or re.match(r"(custom|opaque)_obj", entry["path_name"]):
                    yield f"pickled objects in {inside}"
        elif inside.startswith("models/"):
            for target in _targets(json.loads(archive.read(name))):
                if not OPERATIONS.fullmatch(target):
                    yield f"the operation {target[:80]!r}"


def _targets(value: Any) -> Iterator[str]:
    """Yield the operation of every node of every graph."""
    if isinstance(value, dict):
        if isinstance(value.get("target"), str) and "inputs" in value and "outputs" in value:
            yield value["target"]
        for inner in value.values():
            yield from _targets(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _targets(inner)
