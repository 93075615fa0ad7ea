"""The trained parts of a layer that benchmarks begin with."""

from __future__ import annotations

import invkit
from invkit.parts.config import LayerConfig
from invkit.parts.layer import find_layer
from invkit.parts.layer_file import LayerRequest
from invkit.parts.store import Store
from invkit.parts.workshop import Workshop
from invkit.plugins.gather import gather
from invkit.plugins.manager import default_host
from invkit.samplers.vae import family
from invkit.sampling.base import LayerModel

__all__ = ["layer_parts", "layer_request"]


def layer_request(model: str, layer: str, config: LayerConfig | None = None) -> tuple[LayerRequest, Store]:
    """Return what asks for a layer's cINN on the built-in phantoms, and where it is looked for."""
    host = default_host()
    store = Store(host)
    slices = gather(None, host, 0, "physical", store.root)
    workshop = Workshop(store, slices, True, config or LayerConfig(), "default", 0, "cpu")
    return family.layer_request(invkit.Split(invkit.load(model), layer), "low", workshop), store


def layer_parts(model: str, layer: str) -> tuple[LayerRequest, LayerModel]:
    """Return what asks for a layer's cINN on the built-in phantoms, and the cINN that is bundled or cached."""
    request, store = layer_request(model, layer)
    found = find_layer(request, store)
    if found is None:
        raise SystemExit(f"no cINN of layer {layer} of {model} is bundled or cached: train it first")
    return request, found
