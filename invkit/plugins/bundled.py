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
        "c864792f9fdcc061baef1fbec6d6b68e05c388e943421151fc0223a0ba91cea8",
        "cINN of the control input",
    ),
    Artifact(
        "cinn",
        "package:invkit/bundled/cinn-const.safetensors",
        "792ce757e3ed2d32dc76eec1a097096ce1426ba9b4e5bef65c5e581d01ba7533",
        "cINN of the control const",
    ),
    Artifact(
        "cinn",
        "package:invkit/bundled/cinn-input-high.safetensors",
        "06584097b4a9351161f04e9d653b2b06de46f1a021c4db9d6081e3b1307f4da4",
        "cINN of the control input, high-dose images",
    ),
    Artifact(
        "cinn",
        "package:invkit/bundled/cinn-const-high.safetensors",
        "de658161854e17b8098543128b0cf77108f34a5970ef04a7afea6dfaa02d67ab",
        "cINN of the control const, high-dose images",
    ),
)
