"""A trained VAE-WGAN as an object and as a file."""

__all__ = ["CRITIC", "KIND", "TrainedVae", "load_vae"]

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from invkit.errors import ArtifactError
from invkit.training.seeds import seeded
from invkit.vae.critic import Critic
from invkit.vae.fitting import read_network, restored
from invkit.vae.vae import VAE, VaeConfig, build_critic

KIND = "vae"
CRITIC = "critic."  # what the names of its tensors begin with in the file


@dataclass(frozen=True)
class TrainedVae:
    """A trained VAE-WGAN.

    Args:
        vae: encoder and decoder, in eval mode, float32.
        critic: the critic of scaled patches, or `None` if it was not stored.
        meta: provenance and held-out figures.
        sha256: of the file it was stored in.
    """

    vae: VAE
    critic: Critic | None
    meta: dict[str, Any]
    sha256: str


def load_vae(path: Path, *, sha256: str | None = None, device: torch.device | str = "cpu") -> TrainedVae:
    """Read a VAE in eval mode, float32, without gradients on its parameters.

    Raises:
        ArtifactError: missing, changed by a bit, of another kind, or not what its own config describes.
    """
    vae, stored = read_network(path, KIND, VaeConfig, VAE, sha256=sha256, device=device)
    judge = None
    if stored.part("critic"):
        judge = restored(seeded(lambda: build_critic(vae.config), 0), stored, "critic", device)
    gains = torch.tensor(stored.meta.get("equaliser", [1.0] * len(vae.equaliser.gain)))
    if gains.shape != vae.equaliser.gain.shape or not bool(gains.isfinite().all()):
        raise ArtifactError(f"{path} holds {len(gains)} gains of bands that cannot be used. Train again")
    vae.equaliser.gain.copy_(gains)
    return TrainedVae(vae, judge, stored.meta, stored.sha256)
