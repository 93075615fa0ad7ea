"""How yang2018 is trained: a Wasserstein GAN with gradient penalty and a perceptual term on patches of 64 x 64 pixels."""

__all__ = ["RECIPE", "critic_64"]

import invkit


def critic_64(patch: int = 64):  # type: ignore[no-untyped-def]  # naming nn.Module would import torch
    """Return the critic for square patches of this side; the function's name stands in the bundled weights' provenance."""
    from invkit_yang2018.network import Critic

    return Critic(patch)


RECIPE = invkit.Recipe(
    patch=64,
    batch=128,
    steps=67_000,
    lr=1e-5,
    betas=(0.5, 0.9),
    mse=0.0,
    adversarial=invkit.Adversarial(critic=critic_64, gradient_penalty=10.0, critic_steps=4, lr=1e-5),
    perceptual=invkit.Perceptual(weight=0.1, backbone="vgg19"),
    presets={
        # Every figure with its source, in files to read and to copy.
        **{
            name: f"package:invkit_yang2018/presets/{name}.toml"
            for name in ("default", "paper", "ldct-benchmark")
        },
        # What the bundled weights were trained with: a start by mean squared error, then the published losses at a
        # higher rate that decays, with features that can be had offline and the weight that suits them.
        "bundled": {
            "batch": 8,
            "steps": 6_400,
            "mse_steps": 4_000,
            "lr": 4e-4,
            "lr_end": 0.02,
            "adversarial": {"critic_steps": 1, "lr": 2e-4, "weight": 1e-3},
            "perceptual": {"backbone": "hed-vgg16", "weight": 20.0},
        },
        "tiny": {
            "batch": 4,
            "steps": 6,
            "mse_steps": 2,
            "adversarial": {"critic_steps": 1},
            "perceptual": None,
        },
    },
)
