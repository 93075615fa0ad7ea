"""The VAE of a domain: bundled, cached, or trained from slices to a file."""

__all__ = ["VaeRequest", "VaeTraining", "find_vae", "learn_vae"]

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from invkit.parts.code import CodeRequest, CodeTraining, learn_code
from invkit.parts.store import Store
from invkit.training.progress import Progress
from invkit.training.task import FitResult
from invkit.vae.fitting import halves
from invkit.vae.held_out import first_patches, held_out_figures, pca_figures
from invkit.vae.train import VaeTask, equalise
from invkit.vae.trained import CRITIC, KIND, TrainedVae, load_vae
from invkit.vae.vae import VAE, VaeConfig, build_critic


class VaeRequest(CodeRequest[VaeConfig]):
    """What decides how a VAE of flat codes comes out."""

    kind, stream = KIND, "vae"


class VaeTraining(CodeTraining[VaeConfig, VAE]):
    """A VAE-WGAN, from slices to a file; its equaliser is measured last."""

    def build(self) -> VAE:
        """Return E and D; the critic is built with them."""
        vae = VAE(self.config)
        self.critic = build_critic(self.config).to(self.device)
        return vae

    def task(self, vae: VAE, identity: str) -> VaeTask:
        """Return the task of all three networks, E and D started from the first patches."""
        first = first_patches(self.train, self.domain, self.config.batch, self.config.start_patches)
        vae.start(first.to(self.device))
        return VaeTask(
            vae,
            self.critic,
            self.train,
            self.held_out,
            domain=self.domain,
            seed=self.seed,
            identity=identity,
        )

    def measure(self, vae: VAE, result: FitResult) -> dict[str, Any]:
        """Return the gains of the equaliser, and what E and D keep of held-out patches, compared with a PCA of as many numbers."""
        config = self.config
        self.critic.half().float().eval()
        equalise(vae, self.train, self.domain)
        figures = held_out_figures(vae, self.held_out, self.domain, config.held_out)
        if config.pca_patches > config.d:
            figures["pca"] = pca_figures(self.train, self.held_out, self.domain, config, self.seed)
        return {"equaliser": vae.equaliser.gain.tolist(), "held_out": figures}

    def tensors(self) -> Mapping[str, Tensor]:
        """Return those of the critic."""
        return halves(self.critic, CRITIC)


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
    return learn_code(VaeTraining, request, store, out=out, device=device, progress=progress)
