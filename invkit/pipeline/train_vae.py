"""The VAE of a domain: bundled, cached, or trained from slices to a file."""

__all__ = ["VaeRequest", "find_vae", "learn_vae"]

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from invkit.data.patches import PatchSampler
from invkit.data.slices import SliceSet, split_meta
from invkit.pipeline.store import Store
from invkit.representation.train import train_vae
from invkit.representation.trained import TrainedVae, load_vae, save_vae
from invkit.representation.vae import VaeConfig
from invkit.training.distributed import all_true, by_first
from invkit.training.lock import exclusive
from invkit.training.progress import Progress
from invkit.training.seeds import derive_seed

KIND = "vae"
Domain = Literal["low", "high"]


@dataclass(frozen=True)
class VaeRequest:
    """What decides how a VAE comes out.

    Args:
        domain: `"low"` for the code of low-dose images x, `"high"` for that of high-dose images y.
        slices: what is trained on.
        config: architecture, sizes, steps.
        dose: of the low-dose images, as a fraction of the slices' own.
        seed: decides every random number.
    """

    domain: Domain
    slices: SliceSet
    config: VaeConfig
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
        seed = derive_seed(self.seed, "vae", part)
        return PatchSampler(self.slices.part(part), self.config.patch, dose=self.dose, seed=seed)


def find_vae(request: VaeRequest, store: Store, *, bundled: bool, device: str = "cpu") -> TrainedVae | None:
    """Return the VAE of a request, or `None` where there is none yet.

    Args:
        request: what is wanted.
        store: bundled and cached parts.
        bundled: take the VAE that ships with invkit for this domain, whatever it was trained on.
        device: where to put it.
    """
    if bundled:
        for artifact in store.host.artifacts():
            if artifact.kind == KIND and artifact.meta.get("default_for") == request.domain:
                return load_vae(artifact.locate(), sha256=artifact.sha256, device=device)
    found = store.find(KIND, store.key(request.describe()))
    return None if found is None else load_vae(found[0], sha256=found[1], device=device)


def learn_vae(
    request: VaeRequest,
    store: Store,
    *,
    out: Path | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Path:
    """Train the VAE of a request and keep it; return its file. An interrupted training goes on where it stopped.

    Args:
        request: what to train.
        store: where it is kept.
        out: the file to write instead of the cache's own.
        device: where to train.
        progress: called as the training goes on.

    Raises:
        DivergedError: the training diverged twice, or the posterior collapsed.
    """
    key = store.key(request.describe())
    path = out or store.path(KIND, key)
    work = store.work(KIND, key)
    with exclusive(work):
        if out is not None or not all_true(store.find(KIND, key) is not None):
            trained = train_vae(
                request.sampler("train"),
                request.sampler("validation"),
                request.config,
                work,
                domain=request.domain,
                seed=derive_seed(request.seed, "vae", request.domain),
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
            by_first(lambda: save_vae(path, trained, meta))
    return path
