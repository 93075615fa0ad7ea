"""The VAE of a domain: bundled, cached, or trained from slices to a file."""

__all__ = ["VaeRequest", "find_vae", "learn_vae"]

from pathlib import Path

from invkit.parts.code import CodeRequest, learn_code
from invkit.parts.store import Store
from invkit.training.progress import Progress
from invkit.vae.train import train_vae
from invkit.vae.trained import KIND, TrainedVae, load_vae, save_vae
from invkit.vae.vae import VaeConfig


class VaeRequest(CodeRequest[VaeConfig]):
    """What decides how a VAE of flat codes comes out."""

    kind, stream = KIND, "vae"


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
    """Train the VAE of a request and keep it; return its file. Arguments and errors are those of `learn_code`."""
    return learn_code(request, store, train_vae, save_vae, out=out, device=device, progress=progress)
