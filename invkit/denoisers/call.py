"""Calls a network as its description says: channels, arguments, and where in what it returns the image is."""

__all__ = ["call_network", "described_call"]

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from invkit.denoisers.spec import Call, Denoiser
from invkit.errors import DenoiserError


def described_call(spec: Denoiser) -> dict[str, Any]:
    """Return what distinguishes a denoiser's call from `network(image)`, as JSON values; nothing where nothing does."""
    call, channels = spec.call.describe(), spec.channels
    return ({"call": call} if call else {}) | ({"channels": channels} if channels > 1 else {})


def call_network(network: nn.Module, prepared: Tensor, spec: Denoiser) -> Any:
    """Return what a network makes of images, `(B, 1, H, W)`, in network units.

    Where the description names an element of the output, several channels or the noise, the image is taken out of what the
    network returns; anything else is returned as it is, for the caller to judge.

    Raises:
        DenoiserError: the output has no such element, or a number of channels that stands for no image.
    """
    call = spec.call
    width = max(spec.channels, call.slices)
    given = prepared.expand(-1, width, -1, -1) if width > 1 else prepared
    if call.maps:
        shape = (prepared.shape[0], 1, *prepared.shape[2:])
        given = torch.cat([given, *(prepared.new_full(shape, value) for value in call.maps)], 1)
    # Contiguous: an expanded image would be a view whose channels are one, which networks that work in place cannot write to.
    given = given.contiguous() if width > 1 else given
    kept = prepared.clone() if call.noise else prepared
    out = network(given, **call.arguments, **_tensors(call, prepared))
    out = _element(out, call, spec.name)
    if width > 1 and isinstance(out, Tensor) and out.dim() == 4:
        out = _one_channel(out, width, spec)
    return kept - out if call.noise and isinstance(out, Tensor) and out.shape == kept.shape else out


def _tensors(call: Call, prepared: Tensor) -> dict[str, Tensor]:
    bound = {}
    for name, value in call.tensors.items():
        tensor = torch.tensor(value, device=prepared.device)
        tensor = tensor.to(prepared.dtype) if tensor.is_floating_point() else tensor
        bound[name] = tensor.expand(prepared.shape[0], *tensor.shape).contiguous()
    return bound


def _element(out: Any, call: Call, name: str) -> Any:
    path = call.output if isinstance(call.output, tuple) else (call.output,)
    for key in path:
        try:
            out = out[key] if isinstance(out, Mapping) or isinstance(key, int) else getattr(out, key)
        except (LookupError, AttributeError, TypeError):
            has = sorted(map(str, out)) if isinstance(out, Mapping) else f"a {type(out).__name__}"
            if isinstance(out, tuple | list):
                has = f"a {type(out).__name__} of {len(out)}"
            raise DenoiserError(
                f"denoiser {name}: what the network returns has no element {key!r}; it is {has}"
            ) from None
    return out


def _one_channel(out: Tensor, width: int, spec: Denoiser) -> Tensor:
    if out.shape[1] == 1:
        return out
    if out.shape[1] != width:
        raise DenoiserError(
            f"denoiser {spec.name} must return 1 or {width} channels, got shape {tuple(out.shape)}"
        )
    if spec.channels > 1:
        return out.mean(1, keepdim=True)
    return out[:, width // 2 : width // 2 + 1]
