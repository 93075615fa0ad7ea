"""bfloat16 where it pays, float64 where it must be."""

__all__ = ["autocast", "in_float64", "sum_in_float64", "supports_bf16"]

from contextlib import AbstractContextManager

import torch
from torch import Tensor


def supports_bf16(device: torch.device | str) -> bool:
    """Tell whether the device has bfloat16 in hardware; elsewhere it is emulated, and slower than float32."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        probes = (
            getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        )
        return any(probe is not None and probe() for probe in probes)
    return False


def autocast(device: torch.device | str, enabled: bool) -> AbstractContextManager[None]:
    """Return a context in which matrix products and convolutions run in bfloat16; parameters stay in float32.

    With `enabled=False` it switches an outer autocast off, so that a map that must be exact stays in float32.
    """
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=enabled)


def in_float64(tensor: Tensor) -> Tensor:
    """Return a tensor in float64: where it is, or on the CPU if its device has no float64, as Apple's have none."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def sum_in_float64(tensor: Tensor, dim: int) -> Tensor:
    """Return the sum over one dimension in float64, where `in_float64` would be."""
    return (
        in_float64(tensor).sum(dim) if tensor.device.type == "mps" else tensor.sum(dim, dtype=torch.float64)
    )
