"""The sampler `residual`: a flow of x - f(x) on small tiles, which loses nothing of it."""

__all__ = ["Residual"]

from pathlib import Path

from invkit.data.patches import Domain
from invkit.parts.layer_file import read_layer
from invkit.parts.workshop import Workshop
from invkit.samplers.family import TrainedFamily
from invkit.samplers.residual.model import ResidualModel
from invkit.samplers.residual.tile_code import TileCode
from invkit.samplers.residual.train import ResidualRequest, ResidualTraining
from invkit.split.split import Split


class Residual(TrainedFamily):
    """A flow of each layer's own, in coordinates that begin at the denoised image."""

    what, training = "flow of residuals", ResidualTraining

    def request(self, split: Split, domain: Domain, workshop: Workshop) -> ResidualRequest:
        """Return what the flow of a layer or control is to be."""
        return ResidualRequest.of(split, domain, workshop)

    def read(self, path: Path, request: ResidualRequest, sha256: str | None = None) -> ResidualModel:
        """Return the flow in a file."""
        return ResidualModel(code=TileCode(request.config.cinn.d), **read_layer(path, request, sha256)[0])
