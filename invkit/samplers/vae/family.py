"""The sampler `vae`: flat codes of the VAE-WGAN, and a cINN for each layer."""

__all__ = ["Vae", "layer_request"]

from invkit.data.patches import Domain
from invkit.parts.layer import LayerRequest, find_layer, learn_layer
from invkit.parts.workshop import Workshop
from invkit.samplers.family import Family
from invkit.sampling.base import LayerModel
from invkit.split.split import Split


class Vae(Family):
    """VAE-WGAN and cINN, as published."""

    what = "cINN"

    def find(self, split: Split, domain: Domain, workshop: Workshop) -> LayerModel | None:
        """Return the cINN of a layer or control, bundled or cached."""
        return find_layer(layer_request(split, domain, workshop), workshop.store)

    def learn(self, split: Split, domain: Domain, workshop: Workshop) -> None:
        """Train the cINN of a layer or control."""
        learn_layer(layer_request(split, domain, workshop), workshop.store, progress=workshop.progress)


def layer_request(split: Split, domain: Domain, workshop: Workshop) -> LayerRequest:
    """Return what the cINN of a layer or control is to be."""
    vae = workshop.vae(domain)
    # The length of a code is the VAE's, whatever the preset was made for.
    cinn = workshop.config.cinn.model_copy(update={"d": vae.vae.config.d})
    config = workshop.config.model_copy(update={"cinn": cinn})
    return LayerRequest(split, vae, workshop.slices, config, domain, workshop.seed)
