"""How yang2018 is trained: a Wasserstein GAN with gradient penalty and a perceptual term on patches of 64 x 64 pixels."""

from __future__ import annotations

__all__ = ["RECIPE", "critic_64"]

from typing import TYPE_CHECKING

import invkit

if TYPE_CHECKING:  # a plugin is described without torch
    from torch import nn


def critic_64(patch: int = 64) -> nn.Module:
    """Return the critic for square patches of this side; the function's name stands in the bundled weights' provenance."""
    from invkit_yang2018.network import Critic

    return Critic(patch)


RECIPE = invkit.Recipe(
    patch=64,
    batch=8,
    steps=6_400,
    lr=4e-4,
    betas=(0.5, 0.9),
    lr_end=0.02,
    mse=0.0,
    mse_steps=4_000,
    adversarial=invkit.Adversarial(
        critic=critic_64, gradient_penalty=10.0, critic_steps=1, lr=2e-4, weight=1e-3
    ),
    perceptual=invkit.Perceptual(weight=20.0, backbone="hed-vgg16"),
    presets={
        # Every figure with its source, in files to read and to copy.
        **{
            name: f"package:invkit_yang2018/presets/{name}.toml"
            for name in ("default", "paper", "ldct-benchmark")
        },
        "tiny": {
            "batch": 4,
            "steps": 6,
            "mse_steps": 2,
            "lr": 1e-5,
            "lr_end": 1.0,
            "adversarial": {"lr": 1e-5, "weight": 1.0},
            "perceptual": None,
        },
    },
)
