"""A trained VAE-WGAN as an object and as a file."""

__all__ = ["TrainedVae", "build", "load_vae", "save_vae"]

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from invkit import artifacts
from invkit.errors import ArtifactError
from invkit.training.seeds import derive_seed, seeded
from invkit.vae.critic import Critic
from invkit.vae.fitting import config_of, halves, restored
from invkit.vae.vae import VAE, VaeConfig, build_critic

KIND = "vae"


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


def build(config: VaeConfig, seed: int, device: torch.device | str) -> tuple[VAE, Critic]:
    """Return both networks with parameters that depend on the seed alone."""
    vae, critic = seeded(lambda: (VAE(config), build_critic(config)), derive_seed(seed, "vae", "parameters"))
    return vae.to(device), critic.to(device)


def save_vae(path: Path, trained: TrainedVae, meta: Mapping[str, Any]) -> str:
    """Write a VAE (and its critic, if there is one) in fp16 with its provenance; return the file's sha256.

    `meta` needs `"config"`; the other fields are for people and for the cache.
    """
    critic = {} if trained.critic is None else halves(trained.critic, "critic.")
    return artifacts.save(path, {**halves(trained.vae, "vae."), **critic}, kind=KIND, meta=meta)


def load_vae(path: Path, *, sha256: str | None = None, device: torch.device | str = "cpu") -> TrainedVae:
    """Read a VAE in eval mode, float32, without gradients on its parameters.

    Raises:
        ArtifactError: missing, changed by a bit, of another kind, or not what its own config describes.
    """
    stored = artifacts.load(Path(path), kind=KIND, sha256=sha256)
    vae, critic = build(config_of(stored, VaeConfig), 0, "cpu")
    restored(vae, stored, "vae", device)
    judge = restored(critic, stored, "critic", device) if stored.part("critic") else None
    gains = torch.tensor(stored.meta.get("equaliser", [1.0] * len(vae.equaliser.gain)))
    if gains.shape != vae.equaliser.gain.shape or not bool(gains.isfinite().all()):
        raise ArtifactError(f"{path} holds {len(gains)} gains of bands that cannot be used. Train again")
    vae.equaliser.gain.copy_(gains)
    return TrainedVae(vae, judge, stored.meta, stored.sha256)
