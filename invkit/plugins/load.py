"""Loads a denoiser from whatever a user names it by."""

from __future__ import annotations

__all__ = ["load", "stated_provenance"]

from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn

from invkit.denoisers.contract import probed
from invkit.denoisers.formats.open import open_model
from invkit.denoisers.formats.reference import is_reference
from invkit.denoisers.loaded import LoadedDenoiser, load_denoiser, wrap_module
from invkit.denoisers.spec import Call, Denoiser, Preprocessing
from invkit.denoisers.weights.read import weights_provenance
from invkit.errors import UsageError
from invkit.plugins.manager import PluginHost, default_host


def load(
    model: str | Path | Denoiser | nn.Module | LoadedDenoiser | Callable[..., Any],
    *,
    preprocessing: Preprocessing | None = None,
    call: Call | None = None,
    channels: int | None = None,
    device: torch.device | str | None = None,
    host: PluginHost | None = None,
) -> LoadedDenoiser:
    """Return a denoiser from HU to HU, shape `(B, 1, H, W)`, after it was tested; see `invkit.denoisers.contract.probed`.

    Args:
        model: a name, `arch` or `arch.tag`; a description; an `nn.Module`; a file of weights or a program, or a folder with one;
            `module.path:name`; a class or function that makes a network; a function of images, tensors `(B, 1, H, W)` or arrays
            `(H, W)`; or a loaded denoiser, which is returned unchanged.
        preprocessing: between HU and the network's units, for what no plugin describes. A file needs one; everything else takes HU
            by default.
        call: how the network is called, likewise.
        channels: of the network's input, 1 or 3, likewise; by default what its file says, or 1.
        device: where to put its network, the CPU by default; a network given as a module is not moved, and
            must already be on the device if one is given.
        host: the plugins in which names are looked up; those of this process by default.

    Raises:
        UnknownNameError: no plugin provides this name.
        UsageError: `model` is none of these, a network is not on the given device, or units are not said, or said twice.
        InvkitError: it cannot be built or its weights cannot be used; see `load_denoiser`.
    """
    host = host or default_host()
    if isinstance(model, str) and not is_reference(model):
        described: Denoiser | LoadedDenoiser | None
        described, tag = host.denoiser(model)
    else:
        described, tag = (model if isinstance(model, Denoiser | LoadedDenoiser) else None), None
    if described is not None and (preprocessing, call, channels) != (None, None, None):
        raise UsageError(
            f"denoiser {described.name} states its units and its call itself: leave out preprocessing, call and channels"
        )
    if isinstance(described, Denoiser):
        return probed(load_denoiser(described, tag, device=device or "cpu"))
    if isinstance(model, nn.Module):
        loaded = wrap_module(model, preprocessing=preprocessing, call=call, channels=channels or 1)
        _check_place(loaded, device)
        return probed(loaded)
    if isinstance(model, LoadedDenoiser):
        _check_place(model, device)
        return model
    if isinstance(model, str | Path) or callable(model):
        opened = open_model(
            model, preprocessing=preprocessing, call=call, channels=channels, device=device or "cpu"
        )
        return probed(opened)
    raise UsageError(
        f"a model must be a name, a file, a function, an invkit.Denoiser or an nn.Module, got {type(model).__name__}. "
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
