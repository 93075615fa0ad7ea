"""One-time conversion of a PyTorch state dict to safetensors, without running any code that the file may hold."""

__all__ = ["convert_state_dict", "state_of"]

import argparse
import io
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save as save_bytes
from torch import Tensor

from invkit.artifacts import write_atomic
from invkit.errors import ArtifactError, UsageError

INSIDE = ("state_dict", "model_state_dict", "model", "params")


def convert_state_dict(source: Path, target: Path) -> int:
    """Write the tensors of a `.pt` or `.pth` state dict as safetensors; return how many there are.

    The file is read with `weights_only=True`: only tensors and plain containers are unpickled, and anything else is
    refused. A state dict inside a checkpoint is found under its usual names.

    Args:
        source: the PyTorch file.
        target: the safetensors file; must not exist.

    Raises:
        ArtifactError: the file cannot be read, holds more than tensors, or no state dict.
        UsageError: `target` exists.
    """
    if target.exists():
        raise UsageError(f"{target} exists already. Choose another name; nothing is overwritten")
    try:
        data = source.read_bytes()
    except FileNotFoundError:
        raise ArtifactError(f"{source} does not exist") from None
    except OSError as error:
        raise ArtifactError(f"cannot read {source}: {error.strerror or error}") from None
    tensors = state_of(data, label=str(source))
    write_atomic(target, save_bytes(tensors))
    return len(tensors)


def state_of(data: bytes, *, label: str) -> dict[str, Tensor]:
    """Return the tensors of a PyTorch state dict, each with memory of its own; no code in it is run.

    Args:
        data: the bytes of a `.pt` or `.pth` file.
        label: how messages call the file.

    Raises:
        ArtifactError: it holds more than tensors and plain containers, or no state dict.
    """
    try:
        # Checkpoints of training scripts keep their options beside the weights; the class holds attributes, no more.
        with torch.serialization.safe_globals([argparse.Namespace]):
            loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # of a damaged file torch raises nearly everything
        raise ArtifactError(
            f"{label} cannot be converted: it is no PyTorch file that holds only tensors ({type(error).__name__}). "
            "Save its state_dict alone with torch.save(model.state_dict(), ...)"
        ) from None
    state = _state_dict(loaded)
    if state is None:
        raise ArtifactError(f"{label} holds no state dict: a mapping from names to tensors was looked for")
    odd = [name for name, tensor in state.items() if tensor.layout != torch.strided or tensor.is_quantized]
    if odd:
        raise ArtifactError(f"{label} cannot be converted: {odd[0]} is a sparse or quantised tensor")
    return {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}


def _state_dict(loaded: object) -> dict[str, Tensor] | None:
    if not isinstance(loaded, Mapping):
        return None
    if loaded and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in loaded.items()):
        return dict(loaded)
    for name in INSIDE:
        if name in loaded:
            return _state_dict(loaded[name])
    return None
