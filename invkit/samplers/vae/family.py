"""The sampler `vae`: flat codes of the VAE-WGAN, and a cINN for each layer."""

__all__ = ["Vae"]

from dataclasses import replace
from pathlib import Path

from invkit.data.patches import Domain
from invkit.parts.layer import LayerRequest, LayerTraining, load_layer
from invkit.parts.workshop import Workshop
from invkit.samplers.family import TrainedFamily
from invkit.sampling.base import LayerModel
from invkit.split.split import Split


class Vae(TrainedFamily):
    """VAE-WGAN and cINN, as published."""

    what, training = "cINN", LayerTraining

    def request(self, split: Split, domain: Domain, workshop: Workshop) -> LayerRequest:
        """Return what the cINN of a layer or control is to be."""
        request = LayerRequest.of(split, domain, workshop)
        # The length of a code is the VAE's, whatever the preset was made for.
        cinn = request.config.cinn.model_copy(update={"d": request.vae.vae.d})
        return replace(request, config=request.config.model_copy(update={"cinn": cinn}))

    def read(self, path: Path, request: LayerRequest, sha256: str | None = None) -> LayerModel:
        """Return the cINN in a file."""
        return load_layer(path, request, sha256=sha256)
