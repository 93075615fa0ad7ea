"""The trained parts of a layer that benchmarks begin with."""

from __future__ import annotations

import invkit
from invkit.parts.config import LayerConfig
from invkit.parts.layer_file import LayerRequest
from invkit.parts.store import Store
from invkit.parts.workshop import Workshop
from invkit.plugins.gather import gather
from invkit.plugins.manager import default_host
from invkit.samplers.vae.family import Vae
from invkit.sampling.base import LayerModel

__all__ = ["layer_parts", "layer_request"]


def layer_request(model: str, layer: str, config: LayerConfig | None = None) -> tuple[LayerRequest, Workshop]:
    """Return what asks for a layer's cINN on the built-in phantoms, and where it is looked for."""
    host = default_host()
    store = Store(host)
    slices = gather(None, host, 0, "physical", store.root)
    workshop = Workshop(store, slices, True, config or LayerConfig(), "default", 0, "cpu")
    return Vae().request(invkit.Split(invkit.load(model), layer), "low", workshop), workshop


def layer_parts(model: str, layer: str) -> tuple[LayerRequest, LayerModel]:
    """Return what asks for a layer's cINN on the built-in phantoms, and the cINN that is bundled or cached."""
    request, workshop = layer_request(model, layer)
    found = Vae().find(request.split, "low", workshop)
    if not isinstance(found, LayerModel):
        raise SystemExit(f"no cINN of layer {layer} of {model} is bundled or cached: train it first")
    return request, found
