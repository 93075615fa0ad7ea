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
        "3be17c126b5fa29156ccfc40e7114b36a321654bd6069c631ddcc75b3828901c",
        "cINN of the control input",
    ),
    Artifact(
        "cinn",
        "package:invkit/bundled/cinn-const.safetensors",
        "af2f08d550b0e9d3beb055476da880c1faabbde89ecb047b31cbad7a232a4a9f",
        "cINN of the control const",
    ),
    Artifact(
        "cinn",
        "package:invkit/bundled/cinn-input-high.safetensors",
        "a1cbb6772166b32bbcd197bad283352d6b1991fc01fe35b81f19218fadbc575c",
        "cINN of the control input, high-dose images",
    ),
    Artifact(
        "cinn",
        "package:invkit/bundled/cinn-const-high.safetensors",
        "9d87e56c836d411708d9673bc36099c7d592b57c7281d64e0ca454adeb71fdce",
        "cINN of the control const, high-dose images",
    ),
)
