"""The sampler `residual`: a flow of x - f(x) on small tiles, which loses nothing of it."""

__all__ = ["Residual"]

from invkit.data.patches import Domain
from invkit.parts.workshop import Workshop
from invkit.samplers.family import Family
from invkit.samplers.residual.model import ResidualModel
from invkit.samplers.residual.train import ResidualRequest, find_residual, learn_residual
from invkit.split.split import Split


class Residual(Family):
    """A flow of each layer's own, in coordinates that begin at the denoised image."""

    what = "flow of residuals"

    def find(self, split: Split, domain: Domain, workshop: Workshop) -> ResidualModel | None:
        """Return the flow of a layer or control, bundled or cached."""
        return find_residual(_request(split, domain, workshop), workshop.store)

    def learn(self, split: Split, domain: Domain, workshop: Workshop) -> None:
        """Train the flow of a layer or control."""
        learn_residual(_request(split, domain, workshop), workshop.store, progress=workshop.progress)


def _request(split: Split, domain: Domain, workshop: Workshop) -> ResidualRequest:
    return ResidualRequest(
        split, workshop.vae(domain), workshop.slices, workshop.config, domain, workshop.seed
    )
