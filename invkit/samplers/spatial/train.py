"""The VAE with a spatial code of a domain: cached, or trained from slices to a file."""

__all__ = ["SpatialVaeRequest", "find_spatial_vae", "learn_spatial_vae"]

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from invkit.parts.code import CodeRequest, learn_code
from invkit.parts.store import Store
from invkit.samplers.spatial.code import SpatialConfig
from invkit.samplers.spatial.fit import (
    KIND,
    TrainedSpatial,
    load_spatial,
    save_spatial,
    train_spatial,
)
from invkit.training.progress import Progress


class SpatialVaeRequest(CodeRequest[SpatialConfig]):
    """What decides how a VAE with a spatial code comes out."""

    kind, stream = KIND, "spatial"


def find_spatial_vae(
    request: SpatialVaeRequest, store: Store, *, device: str = "cpu"
) -> TrainedSpatial | None:
    """Return the VAE of a request, bundled or cached, or `None` where there is none yet."""
    found = store.find(KIND, store.key(request.describe()))
    return None if found is None else load_spatial(found[0], sha256=found[1], device=device)


def learn_spatial_vae(
    request: SpatialVaeRequest, store: Store, *, device: str = "cpu", progress: Progress | None = None
) -> Path:
    """Train the VAE of a request and keep it; return its file. Arguments and errors are those of `learn_code`."""

    def save(path: Path, trained: TrainedSpatial, meta: Mapping[str, Any]) -> str:
        return save_spatial(path, trained.vae, meta)

    return learn_code(request, store, train_spatial, save, device=device, progress=progress)
