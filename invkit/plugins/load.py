"""Loads a denoiser from whatever a user names it by."""

from __future__ import annotations

__all__ = ["load", "stated_provenance"]

from itertools import chain
from typing import Any

import torch
from torch import nn

from invkit.denoisers.contract import probed
from invkit.denoisers.loaded import LoadedDenoiser, load_denoiser, wrap_module
from invkit.denoisers.spec import Denoiser
from invkit.denoisers.weights.read import weights_provenance
from invkit.errors import UsageError
from invkit.plugins.manager import PluginHost, default_host


def load(
    model: str | Denoiser | nn.Module | LoadedDenoiser,
    *,
    device: torch.device | str | None = None,
    host: PluginHost | None = None,
) -> LoadedDenoiser:
    """Return a denoiser from HU to HU, shape `(B, 1, H, W)`.

    Args:
        model: a name, `arch` or `arch.tag`; a description; an `nn.Module` from HU to HU; or a loaded
            denoiser, which is returned unchanged.
        device: where to put its network, the CPU by default; a network given as a module is not moved, and
            must already be on the device if one is given.
        host: the plugins in which names are looked up; those of this process by default.

    Raises:
        UnknownNameError: no plugin provides this name.
        UsageError: `model` is none of these, or a network is not on the given device.
        InvkitError: it cannot be built or its weights cannot be used; see `load_denoiser`.
    """
    if isinstance(model, LoadedDenoiser | nn.Module):
        loaded = model if isinstance(model, LoadedDenoiser) else probed(wrap_module(model))
        _check_place(loaded, device)
        return loaded
    if isinstance(model, Denoiser):
        return probed(load_denoiser(model, device=device or "cpu"))
    if isinstance(model, str):
        spec, tag = (host or default_host()).denoiser(model)
        return probed(load_denoiser(spec, tag, device=device or "cpu"))
    raise UsageError(
        f"a model must be a name, an invkit.Denoiser or an nn.Module, got {type(model).__name__}. "
        "`invkit models` lists the names"
    )


def _check_place(loaded: LoadedDenoiser, device: torch.device | str | None) -> None:
    if device is None or next(chain(loaded.network.parameters(), loaded.network.buffers()), None) is None:
        return
    wanted, there = torch.device(device), loaded.device
    if wanted.type != there.type or wanted.index not in (None, there.index):
        raise UsageError(
            f"the network is on {there}, and {wanted} is requested: pass device={str(there)!r}, or move the network there first"
        )


def stated_provenance(denoiser: LoadedDenoiser) -> dict[str, Any]:
    """Return what the file of a denoiser's weights says of its training; nothing where it says nothing."""
    tagged = [weights for weights in denoiser.spec.weights if weights.tag == denoiser.weights_tag]
    return weights_provenance(tagged[0]) if tagged else {}
