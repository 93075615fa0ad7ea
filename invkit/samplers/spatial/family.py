"""The sampler `spatial`: codes that are grids, of a convolutional VAE, and a convolutional flow of them."""

__all__ = ["Spatial", "code_of", "flow_request"]

from invkit.data.patches import Domain
from invkit.parts.workshop import Workshop
from invkit.samplers.family import Family
from invkit.samplers.spatial.code import SpatialSettings
from invkit.samplers.spatial.fit import TrainedSpatial, load_spatial
from invkit.samplers.spatial.model import SpatialModel
from invkit.samplers.spatial.train import SpatialVaeRequest, find_spatial_vae, learn_spatial_vae
from invkit.samplers.spatial.train_flow import SpatialRequest, find_spatial, learn_spatial
from invkit.split.split import Split


class Spatial(Family):
    """One code of all layers, and a flow for each."""

    what = "flow of spatial codes"

    def find(self, split: Split, domain: Domain, workshop: Workshop) -> SpatialModel | None:
        """Return the flow of a layer or control, bundled or cached."""
        return find_spatial(flow_request(split, domain, workshop), workshop.store)

    def learn(self, split: Split, domain: Domain, workshop: Workshop) -> None:
        """Train the flow of a layer or control."""
        learn_spatial(flow_request(split, domain, workshop), workshop.store, progress=workshop.progress)


def flow_request(split: Split, domain: Domain, workshop: Workshop) -> SpatialRequest:
    """Return what the flow of a layer or control is to be."""
    return SpatialRequest(
        split,
        workshop.vae(domain),
        workshop.slices,
        workshop.config,
        domain,
        workshop.seed,
        code=code_of(domain, workshop),
    )


def code_of(domain: Domain, workshop: Workshop) -> TrainedSpatial:
    """Return the VAE with a spatial code of a domain, found or trained."""
    config, store, device = workshop.config, workshop.store, workshop.device
    settings = config.settings("spatial", SpatialSettings).vae
    request = SpatialVaeRequest(domain, workshop.slices, settings, config.dose, workshop.seed)
    return workshop.learned(
        ("spatial", domain),
        f"spatial VAE for {domain}-dose images",
        lambda: find_spatial_vae(request, store, device=device),
        lambda: load_spatial(
            learn_spatial_vae(request, store, device=device, progress=workshop.progress), device=device
        ),
    )
