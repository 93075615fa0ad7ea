"""How chen2017 is trained: mean squared error on patches of 33 x 33 pixels."""

__all__ = ["RECIPE"]

import invkit

RECIPE = invkit.Recipe(
    patch=33,
    batch=64,
    steps=12_000,
    lr=2e-3,
    betas=(0.9, 0.999),
    lr_end=0.005,
    presets={
        # Every figure with its source, in files to read and to copy.
        **{
            name: f"package:invkit_chen2017/presets/{name}.toml"
            for name in ("default", "paper", "ldct-benchmark")
        },
        "tiny": {"steps": 20, "batch": 8, "lr": 1e-3, "lr_end": 1.0},
    },
)
