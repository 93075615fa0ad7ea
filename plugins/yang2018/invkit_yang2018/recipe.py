"""How yang2018 is trained: a Wasserstein GAN with gradient penalty and a perceptual term on patches of 64 x 64 pixels."""

__all__ = ["RECIPE", "critic_64"]

import invkit


def critic_64():  # type: ignore[no-untyped-def]  # naming nn.Module would import torch
    """Return the critic for patches of 64 x 64 pixels."""
    from invkit_yang2018.network import Critic

    return Critic(64)


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
        # The LDCT benchmark's rates and weights; it used patches of 77 pixels and batches of 77.
        "ldct-benchmark": {
            "batch": 77,
            "lr": 7.1e-5,
            "adversarial": {"critic_steps": 1, "lr": 7.1e-5},
            "perceptual": {"weight": 0.689},
        },
        # What the bundled weights were trained with: a start by mean squared error, then the published losses at a
        # higher rate that decays, with features that can be had offline and the weight that suits them.
        "bundled": {
            "batch": 8,
            "steps": 3_000,
            "mse_steps": 2_000,
            "lr": 5e-4,
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
