"""The sampler `spatial`: codes that are grids, of a convolutional VAE, and a convolutional flow of them."""

__all__ = ["Spatial", "code_of"]

from pathlib import Path

from invkit import Split
from invkit.samplers import Domain, TrainedFamily, Workshop, read_layer
from invkit_samplers.spatial.code import SpatialSettings
from invkit_samplers.spatial.model import SpatialModel
from invkit_samplers.spatial.train import (
    SpatialVaeRequest,
    SpatialVaeTraining,
    TrainedSpatial,
    load_spatial,
)
from invkit_samplers.spatial.train_flow import SpatialRequest, SpatialTraining
from invkit_samplers.wavelet.store import wavelet_from


class Spatial(TrainedFamily):
    """One code of all layers, and a flow for each."""

    what, training = "flow of spatial codes", SpatialTraining

    def request(self, split: Split, domain: Domain, workshop: Workshop) -> SpatialRequest:
        """Return what the flow of a layer or control is to be."""
        return SpatialRequest.of(split, domain, workshop, code=code_of(domain, workshop))

    def read(self, path: Path, request: SpatialRequest, sha256: str | None = None) -> SpatialModel:
        """Return the flow in a file."""
        fields, _ = read_layer(path, request, sha256, wavelet_from, "flow")
        return SpatialModel(vae=request.code.vae, **fields)


def code_of(domain: Domain, workshop: Workshop) -> TrainedSpatial:
    """Return the VAE with a spatial code of a domain, found or trained."""
    config = workshop.config
    settings = config.settings("spatial", SpatialSettings).vae
    request = SpatialVaeRequest(domain, workshop.slices, settings, config.dose, workshop.seed)
    what = f"spatial VAE for {domain}-dose images"
    return workshop.code(request, SpatialVaeTraining, load_spatial, what=what)
