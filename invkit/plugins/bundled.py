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
        "02bb317dfecbe084abad1c0f2d348dcbea54cde3b0d1c74c3911bab6d068bd1b",
        "cINN of the control input",
    ),
    Artifact(
        "cinn",
        "package:invkit/bundled/cinn-const.safetensors",
        "704d7af9cf12b35d1e102489db72d617e4691ccdc37e5ae342e5b1f8bc183eff",
        "cINN of the control const",
    ),
    Artifact(
        "cinn",
        "package:invkit/bundled/cinn-input-high.safetensors",
        "b71e76a0519e0b32ae5d9ad260f6f05c8ac4db4966a56f5bc4578a753b645c4c",
        "cINN of the control input, high-dose images",
    ),
    Artifact(
        "cinn",
        "package:invkit/bundled/cinn-const-high.safetensors",
        "19c54b18c45ca9f1eb8133fe5de9e5643048115830a7b18f331c269f4a1145af",
        "cINN of the control const, high-dose images",
    ),
)
