"""What the trainings of all VAEs share: when they look, and how networks are written and read again."""

__all__ = ["fit_config", "halves", "read_network", "restored"]

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from invkit import artifacts
from invkit.errors import ArtifactError
from invkit.training.seeds import seeded
from invkit.training.task import FitConfig
from invkit.vae.vae import CodeConfig

LOOKS = 20  # evaluations and checkpoints of a training
Config = TypeVar("Config", bound=BaseModel)
Network = TypeVar("Network", bound=nn.Module)


def fit_config(config: CodeConfig, *, seed: int) -> FitConfig:
    """Return the engine's settings for a VAE of this config."""
    every = max(config.steps // LOOKS, 1)
    return FitConfig(
        steps=config.steps,
        seed=seed,
        checkpoint_every=every,
        evaluate_every=every,
        clip_norm=config.clip_norm,
    )


def halves(network: nn.Module, start: str = "") -> dict[str, Tensor]:
    """Return the numbers of a network in fp16, by names that begin so."""
    return {f"{start}{name}": tensor.half() for name, tensor in network.state_dict().items()}


def read_network(
    path: Path,
    kind: str,
    known: type[Config],
    build: Callable[[Config], Network],
    *,
    part: str | None = "vae",
    sha256: str | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Network, artifacts.Stored]:
    """Return the network of a file as its config describes it, in eval mode, float32, without gradients; and the file.

    Args:
        path: the file.
        kind: of the file.
        known: the config's class.
        build: from a config to the network.
        part: of the file that holds it; `None` for all of it.
        sha256: the file's, where it is known.
        device: where to put the network.

    Raises:
        ArtifactError: missing, changed by a bit, of another kind, or not what its own config describes.
    """
    stored = artifacts.load(Path(path), kind=kind, sha256=sha256)
    try:
        config = known.model_validate(stored.meta["config"])
    except (KeyError, ValidationError) as error:
        raise ArtifactError(
            f"{stored.path} does not describe a {stored.kind} that this version knows: {error}. Train again"
        ) from None
    return restored(seeded(lambda: build(config), 0), stored, part, device), stored


def restored(
    network: Network, stored: artifacts.Stored, part: str | None, device: torch.device | str
) -> Network:
    """Return a network with its part of a file, or all of it, in eval mode, float32, without gradients on its parameters.

    Raises:
        ArtifactError: a number of the file is not finite, or they do not fit the network that its config describes.
    """
    if not all(bool(tensor.isfinite().all()) for tensor in stored.tensors.values()):
        raise ArtifactError(f"{stored.path} holds values that are not finite. Train again")
    tensors = stored.part(part) if part else stored.tensors
    try:
        network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except RuntimeError as error:
        raise ArtifactError(f"{stored.path} does not fit its own config: {error}. Train again") from None
    return network.to(device).eval().requires_grad_(False)
