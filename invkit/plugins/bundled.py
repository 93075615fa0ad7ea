"""The trained parts that ship with invkit; how each was made is one command in `docs/bundled.md`."""

from __future__ import annotations

__all__ = ["BUNDLED"]

from invkit.plugins.records import Artifact

BUNDLED: tuple[Artifact, ...] = (
    Artifact(
        "vae",
        "package:invkit/bundled/vae-low.safetensors",
        "db1289ec0e555ce688d25f88152202144b7424b076cddcc1a081dc1d87c49376",
        "VAE of low-dose images",
        meta={"default_for": "low"},
    ),
    Artifact(
        "vae",
        "package:invkit/bundled/vae-high.safetensors",
        "226778cea4fa1f0c233500e957c0c35d530fb7573884e9e1a99b07f8bd5fc64c",
        "VAE of full-dose images",
        meta={"default_for": "high"},
    ),
    Artifact(
        "cinn",
        "package:invkit/bundled/cinn-input.safetensors",
        "1a660173501acd62355b11a507569bbacd037bc132d53e442712427e2c8330af",
        "cINN of the control input",
    ),
    Artifact(
        "cinn",
        "package:invkit/bundled/cinn-const.safetensors",
        "b7b75987afcbbcc6cefd10e0c58a7387cdacabd5ef79d54b6129ae030662a972",
        "cINN of the control const",
    ),
    Artifact(
        "cinn",
        "package:invkit/bundled/cinn-input-high.safetensors",
        "8bd6da042eb1d4f88d60747959e3f7c666e68eacfed37c0d94d79f40c49011a0",
        "cINN of the control input, high-dose images",
    ),
    Artifact(
        "cinn",
        "package:invkit/bundled/cinn-const-high.safetensors",
        "a4e0b3b1e316bb2f8d859ec5d300daab2ef27cde2e6c4f024eb477e733cf2194",
        "cINN of the control const, high-dose images",
    ),
)
