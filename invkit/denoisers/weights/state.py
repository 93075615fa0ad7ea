"""The tensors of a file of weights, safetensors or a PyTorch state dict, without running any code that it may hold."""

__all__ = ["state_of"]

import argparse
import io
from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_bytes
from torch import Tensor

from invkit.denoisers.weights.read import LARGEST
from invkit.errors import ArtifactError

INSIDE = ("state_dict", "model_state_dict", "model", "params_ema", "params", "net", "network", "generator")
DEEPEST = 8  # mappings in one another; a checkpoint may hold itself


def state_of(data: bytes, *, label: str) -> dict[str, Tensor]:
    """Return the tensors of a file, each with memory of its own.

    A PyTorch file is read with `weights_only=True`: only tensors and plain containers are unpickled, and anything else is
    refused. A state dict inside a checkpoint is found under its usual names.

    Args:
        data: the bytes of a `.safetensors`, `.pt` or `.pth` file.
        label: how messages call the file.

    Raises:
        ArtifactError: it cannot be read, holds more than tensors and plain containers, or no state dict.
    """
    # A safetensors file begins with the length of its JSON header, whose first byte follows.
    if data[8:9] == b"{":
        try:
            return load_bytes(data)
        except (SafetensorError, ValueError, KeyError) as error:
            raise ArtifactError(f"{label} is not a readable safetensors file: {error}") from None
    try:
        # Checkpoints of training scripts keep their options beside the weights; the class holds attributes, no more.
        with torch.serialization.safe_globals([argparse.Namespace]):
            loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # of a damaged file torch raises nearly everything
        raise ArtifactError(
            f"{label} cannot be read: it is neither safetensors nor a PyTorch file that holds only tensors "
            f"({type(error).__name__}). Save its state_dict alone with torch.save(model.state_dict(), ...)"
        ) from None
    state = _state_dict(loaded)
    if state is None:
        raise ArtifactError(f"{label} contains no state dict (a mapping from names to tensors)")
    _require_plain(state, label)
    return {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}


def _require_plain(state: Mapping[str, Tensor], label: str) -> None:
    """Refuse tensors that are not as large as they say, before any of them is copied."""
    for name, tensor in state.items():
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise ArtifactError(f"{label} cannot be read: {name} is a sparse or quantised tensor")
        if tensor.is_meta:
            raise ArtifactError(f"{label} cannot be read: {name} has a shape but no numbers (device meta)")
        if tensor.nbytes > tensor.untyped_storage().nbytes():
            raise ArtifactError(
                f"{label} cannot be read: {name} of shape {tuple(tensor.shape)} repeats fewer numbers that the file holds. "
                "Save tensor.contiguous() in its place"
            )
    size = sum(tensor.nbytes for tensor in state.values())
    if size > LARGEST:
        raise ArtifactError(f"{label} holds tensors of {size} bytes, the limit is {LARGEST}")


def _state_dict(loaded: object, depth: int = 0) -> dict[str, Tensor] | None:
    if not isinstance(loaded, Mapping) or depth > DEEPEST:
        return None
    if loaded and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in loaded.items()):
        return dict(loaded)
    for name in INSIDE:
        if name in loaded:
            return _state_dict(loaded[name], depth + 1)
    return None
