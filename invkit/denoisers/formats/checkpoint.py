"""Weights of an architecture that the package spandrel knows by the names of its tensors."""

__all__ = ["from_checkpoint"]

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from invkit.denoisers.formats.found import Found, channels_of
from invkit.denoisers.weights.rename import candidates
from invkit.denoisers.weights.state import state_of
from invkit.errors import ArtifactError, DenoiserError, UsageError

TRIED = 64  # pixels a side of the image that tells how spandrel calls a network


def from_checkpoint(path: Path) -> Found:
    """Return the network of a `.safetensors`, `.pth`, `.pt` or `.ckpt` file; nothing in it is run.

    Raises:
        ArtifactError: it cannot be read, or spandrel does not know the names in it.
        DenoiserError: it enlarges images, or is no network from image to image.
        UsageError: spandrel is not installed.
    """
    try:
        import spandrel
    except ImportError as error:
        raise UsageError(
            f"{path.name} holds weights without their network. Install what knows common architectures by their names, pip install "
            f"'invkit[spandrel]', or name the network: --model module:factory, or a plugin ({error})"
        ) from None
    state = state_of(path.read_bytes(), label=path.name)
    described: Any = None
    for candidate in candidates(state):
        try:
            described = spandrel.ModelLoader(device="cpu").load_from_state_dict(copy.copy(dict(candidate)))
            break
        except spandrel.UnsupportedModelError:
            continue
        except Exception as error:
            raise ArtifactError(
                f"{path.name} looks like an architecture that spandrel knows, but does not fit it: {str(error)[:300]}"
            ) from None
    if described is None:
        raise ArtifactError(f"{path.name} is of no architecture that spandrel knows. {_unknown(state)}")
    if not isinstance(described, spandrel.ImageModelDescriptor) or described.scale != 1:
        raise DenoiserError(
            f"{path.name} is {described.architecture.name}, {described.purpose}: it keeps no size, so it is no denoiser"
        )
    network = described.model.float().eval().requires_grad_(False)
    channels, call = channels_of(described.input_channels, owner=path.name)
    multiple = described.size_requirements.multiple_of
    x = torch.rand((1, described.input_channels, TRIED, TRIED), generator=torch.Generator().manual_seed(0))
    maps = _constant_channels(network, described._call_fn, x)
    if maps is None:
        raise ArtifactError(
            f"{path.name} is {described.architecture.name}, which spandrel calls in a way of its own: name the network, --model "
            "module:factory, or describe it with an invkit.Denoiser and its call"
        )
    call = replace(call, maps=maps)
    return Found(network, channels, call, multiple if multiple > 1 else None)


def _constant_channels(
    network: nn.Module, function: Callable[..., Tensor], x: Tensor
) -> tuple[float, ...] | None:
    """Return the constant channels that a call puts behind the image, such as a map of the noise level; `None` if it does more."""
    seen: list[tuple[tuple[Any, ...], Any]] = []
    hook = network.register_forward_hook(lambda _module, given, out: seen.append((given, out)))
    try:
        with torch.no_grad():
            out = function(network, x)
    except Exception:
        return None
    finally:
        hook.remove()
    if len(seen) != 1 or len(seen[0][0]) != 1 or out is not seen[0][1]:
        return None
    given = seen[0][0][0]
    if given.shape[2:] != x.shape[2:] or not torch.equal(given[:, : x.shape[1]], x):
        return None
    more = given[0, x.shape[1] :]
    values = more[:, 0, 0]
    return tuple(values.tolist()) if bool((more == values[:, None, None]).all()) else None


def _unknown(state: Mapping[str, Tensor]) -> str:
    return (
        f"Its names are {', '.join(list(state)[:3])}, ... Name the network as well: a plugin's, with `invkit models add`, or "
        "--model module:factory"
    )
