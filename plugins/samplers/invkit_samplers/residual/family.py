"""The sampler `residual`: a flow of x - f(x) on small tiles, which loses nothing of it."""

__all__ = ["Residual"]

from pathlib import Path

from invkit import Split
from invkit.samplers import Domain, TrainedFamily, Workshop, read_layer
from invkit_samplers.residual.model import ResidualModel
from invkit_samplers.residual.tile_code import TileCode
from invkit_samplers.residual.train import ResidualRequest, ResidualTraining


class Residual(TrainedFamily):
    """A flow of each layer's own, in coordinates that begin at the denoised image."""

    what, training = "flow of residuals", ResidualTraining

    def request(self, split: Split, domain: Domain, workshop: Workshop) -> ResidualRequest:
        """Return what the flow of a layer or control is to be."""
        return ResidualRequest.of(split, domain, workshop)

    def read(self, path: Path, request: ResidualRequest, sha256: str | None = None) -> ResidualModel:
        """Return the flow in a file."""
        return ResidualModel(code=TileCode(request.config.cinn.d), **read_layer(path, request, sha256)[0])
