"""How chen2017 is trained: mean squared error on patches of 33 x 33 pixels."""

__all__ = ["RECIPE"]

import invkit

RECIPE = invkit.Recipe(
    patch=33,
    batch=64,
    steps=86_000,
    lr=1.58e-4,
    betas=(0.9, 0.999),
    presets={
        # Patches as in the slides of Eulig, Ommer and Kachelriess; optimiser as in the LDCT benchmark, whose patches are larger.
        "ldct-benchmark": {"patch": 92, "batch": 68},
        # What the bundled weights were trained with: fewer steps at a higher rate that decays.
        "bundled": {"steps": 12_000, "lr": 2e-3, "lr_end": 0.005},
        "tiny": {"steps": 20, "batch": 8, "lr": 1e-3},
    },
)
