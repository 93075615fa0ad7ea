"""The VAE with a spatial code of a domain: cached, or trained from slices to a file."""

__all__ = ["SpatialVaeRequest", "find_spatial_vae", "learn_spatial_vae"]

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from invkit.data.patches import PatchSampler
from invkit.data.slices import SliceSet, split_meta
from invkit.pipeline.store import Store
from invkit.pipeline.train_vae import Domain
from invkit.representation.spatial import SpatialConfig
from invkit.representation.spatial_train import (
    KIND,
    TrainedSpatial,
    load_spatial,
    save_spatial,
    train_spatial,
)
from invkit.training.distributed import all_true, by_first
from invkit.training.lock import exclusive
from invkit.training.progress import Progress
from invkit.training.seeds import derive_seed


@dataclass(frozen=True)
class SpatialVaeRequest:
    """What decides how a VAE with a spatial code comes out.

    Args:
        domain: `"low"` for the code of low-dose images x, `"high"` for that of high-dose images y.
        slices: what is trained on.
        config: architecture, sizes, steps.
        dose: of the low-dose images, as a fraction of the slices' own.
        seed: decides every random number.
    """

    domain: Domain
    slices: SliceSet
    config: SpatialConfig
    dose: float = 0.25
    seed: int = 0

    def describe(self) -> dict[str, Any]:
        """Return the request as JSON values; its fingerprint is the key of the result."""
        return {
            "kind": KIND,
            "domain": self.domain,
            "slices": self.slices.fingerprint,
            "config": self.config.model_dump(mode="json"),
            "dose": self.dose,
            "seed": self.seed,
        }

    def sampler(self, part: Literal["train", "validation"]) -> PatchSampler:
        """Return the patches of one part of the slices."""
        seed = derive_seed(self.seed, "spatial", part)
        return PatchSampler(self.slices.part(part), self.config.patch, dose=self.dose, seed=seed)


def find_spatial_vae(
    request: SpatialVaeRequest, store: Store, *, device: str = "cpu"
) -> TrainedSpatial | None:
    """Return the VAE of a request, bundled or cached, or `None` where there is none yet."""
    found = store.find(KIND, store.key(request.describe()))
    return None if found is None else load_spatial(found[0], sha256=found[1], device=device)


def learn_spatial_vae(
    request: SpatialVaeRequest, store: Store, *, device: str = "cpu", progress: Progress | None = None
) -> Path:
    """Train the VAE of a request and keep it; return its file. An interrupted training goes on where it stopped.

    Args:
        request: what to train.
        store: where it is kept.
        device: where to train.
        progress: called as the training goes on.

    Raises:
        DivergedError: the training diverged twice.
    """
    key = store.key(request.describe())
    path, work = store.path(KIND, key), store.work(KIND, key)
    with exclusive(work):
        if not all_true(store.find(KIND, key) is not None):
            trained = train_spatial(
                request.sampler("train"),
                request.sampler("validation"),
                request.config,
                work,
                domain=request.domain,
                seed=derive_seed(request.seed, "spatial", request.domain),
                progress=progress,
                device=device,
            )
            meta = {
                **trained.meta,
                **request.describe(),
                "key": key,
                "trained_on": request.slices.description,
                **split_meta(request.slices),
            }
            by_first(lambda: save_spatial(path, trained.vae, meta))
    return path
