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
        # What the bundled weights were trained with: fewer steps at a higher rate that decays, and no pixel whose
        # neighbourhood reaches over the patch's edge (9 x 9, 3 x 3 and 5 x 5 reach 7 pixels).
        "bundled": {"steps": 10_000, "lr": 1.5e-3, "lr_end": 0.01, "border": 7},
        "tiny": {"steps": 20, "batch": 8, "lr": 1e-3},
    },
)
