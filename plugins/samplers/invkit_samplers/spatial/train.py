"""The VAE with a spatial code of a domain, from slices to a file."""

__all__ = ["SpatialVaeRequest", "SpatialVaeTraining", "TrainedSpatial", "load_spatial"]

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from invkit.samplers import CodeRequest, CodeTraining, FitResult, held_out_figures, read_network
from invkit_samplers.spatial.code import SpatialConfig, SpatialVae
from invkit_samplers.spatial.fit import SpatialTask, lost_by_band, rival_of_blocks


@dataclass(frozen=True)
class TrainedSpatial:
    """A trained VAE with a spatial code.

    Args:
        vae: in eval mode, float32.
        meta: provenance and held-out figures.
        sha256: of the file it was stored in.
    """

    vae: SpatialVae
    meta: dict[str, Any]
    sha256: str


class SpatialVaeRequest(CodeRequest[SpatialConfig]):
    """What decides how a VAE with a spatial code comes out."""

    kind, stream = "spatial-vae", "spatial"


class SpatialVaeTraining(CodeTraining[SpatialConfig, SpatialVae]):
    """One run from nothing to a file, which is the network alone."""

    stage, start = "spatial VAE", ""

    def build(self) -> SpatialVae:
        """Return E and D."""
        return SpatialVae(self.config)

    def task(self, vae: SpatialVae, identity: str) -> SpatialTask:
        """Return what trains them."""
        return SpatialTask(
            vae, self.train, self.held_out, domain=self.domain, seed=self.seed, identity=identity
        )

    def measure(self, vae: SpatialVae, result: FitResult) -> dict[str, Any]:
        """Return what they keep of held-out patches, and what a PCA of blocks with as many numbers does."""
        figures = {
            **held_out_figures(vae, self.held_out, self.domain, self.config.held_out),
            **lost_by_band(vae, self.held_out, self.domain),
            "pca": rival_of_blocks(self.train, self.held_out, self.domain, self.config, self.seed),
        }
        return {"seconds": result.seconds, "held_out": figures}


def load_spatial(path: Path, *, sha256: str | None = None, device: str = "cpu") -> TrainedSpatial:
    """Read a VAE in eval mode, float32, without gradients on its parameters.

    Raises:
        ArtifactError: missing, changed by a bit, of another kind, or not what its own config describes.
    """
    vae, stored = read_network(
        path, SpatialVaeRequest.kind, SpatialConfig, SpatialVae, part=None, sha256=sha256, device=device
    )
    return TrainedSpatial(vae, stored.meta, stored.sha256)
