"""A layer's result as a safetensors file with JSON beside it, which another process reads back; nothing in it is ever run."""

__all__ = ["KNOWN", "read_layer", "write_layer"]

import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from invkit.analysis.outcome import LayerResult
from invkit.artifacts import InParts, read_sidecar, save_in_parts
from invkit.calibration.record import CalibrationRecord
from invkit.certificates.certify import Certified
from invkit.errors import ArtifactError
from invkit.measures.structures.shown import ChangedImage
from invkit.sampling.draw import Draws
from invkit.sampling.stack import Stack
from invkit.statistics.intervals import Interval
from invkit.verdict.conclusion import Conclusion
from invkit.verdict.measures import Certification, RandomWeights
from invkit.verdict.rules import Verdict

KIND = "layer"
# What a layer's result is made of; a file that names anything else is refused.
KNOWN: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        CalibrationRecord,
        ChangedImage,
        Certification,
        Certified,
        Conclusion,
        Draws,
        Interval,
        LayerResult,
        RandomWeights,
        Verdict,
    )
}


def write_layer(path: Path, result: LayerResult, beside: Mapping[str, Any]) -> None:
    """Write a layer's result; samples go few at a time.

    Args:
        path: the safetensors file.
        result: of the layer.
        beside: JSON values that are to be read back with it.

    Raises:
        ResourceError: it cannot be written.
    """
    tensors: dict[str, Tensor | InParts] = {}
    meta = {"result": _stated(result, tensors), "beside": dict(beside)}
    save_in_parts(path, tensors, kind=KIND, meta=meta)


def read_layer(path: Path) -> tuple[LayerResult, dict[str, Any]]:
    """Return a layer's result, and what was written beside it; tensors are mapped, not read.

    Raises:
        ArtifactError: the file is damaged, or holds something else.
    """
    sidecar = read_sidecar(path)
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        result, beside = _read(sidecar["meta"]["result"], tensors), sidecar["meta"]["beside"]
        if not isinstance(result, LayerResult) or not isinstance(beside, dict):
            raise TypeError("no layer")
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(
            f"{path} does not contain the result of a layer ({type(error).__name__}: {error})"
        ) from None
    return result, beside


def _stated(value: Any, tensors: dict[str, Tensor | InParts]) -> Any:
    """Return a value as JSON can hold it; tensors are put aside under names."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, list):
        return [_stated(item, tensors) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [_stated(item, tensors) for item in value]}
    if isinstance(value, Mapping):
        # Pairs, for JSON is written with its keys in order.
        return {"dict": [[key, _stated(item, tensors)] for key, item in value.items()]}
    if isinstance(value, slice):
        return {"slice": [value.start, value.stop, value.step]}
    if isinstance(value, Tensor | Stack | np.ndarray):
        name = str(len(tensors))
        tensors[name] = torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        return {
            "array"
            if isinstance(value, np.ndarray)
            else "stack"
            if isinstance(value, Stack)
            else "tensor": name
        }
    name = type(value).__name__
    if KNOWN.get(name) is not type(value):
        raise TypeError(f"a {name} cannot be kept")
    return {
        "is": name,
        "fields": {field.name: _stated(getattr(value, field.name), tensors) for field in fields(value)},
    }


def _read(stated: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(stated, list):
        return [_read(item, tensors) for item in stated]
    if not isinstance(stated, dict):
        return stated
    if "is" in stated:
        return KNOWN[stated["is"]](**{name: _read(item, tensors) for name, item in stated["fields"].items()})
    ((kind, held),) = stated.items()
    if kind == "dict":
        return {key: _read(item, tensors) for key, item in held}
    if kind == "tuple":
        return tuple(_read(item, tensors) for item in held)
    if kind == "slice":
        return slice(*held)
    if kind == "float":
        return float(held)
    if kind == "tensor":
        return tensors[held]
    if kind == "stack":
        return Stack.around(tensors[held])
    if kind == "array":
        return tensors[held].numpy()
    raise LookupError(kind)
