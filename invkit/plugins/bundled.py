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
        "49ec4bd0277534e8229bd2c0378cf858c016023ddde38e7a26bc9d35165beb16",
        "cINN of the control input",
    ),
    Artifact(
        "cinn",
        "package:invkit/bundled/cinn-const.safetensors",
        "da06601d79c2c73d8fe9eea86db8ad52f2c66e489ea43412f3228e5159d34346",
        "cINN of the control const",
    ),
    Artifact(
        "cinn",
        "package:invkit/bundled/cinn-input-high.safetensors",
        "0613f165eb5a152eb43712d18d2d45dcdf98b1d4da4da10cb577fd8eba7463f1",
        "cINN of the control input, high-dose images",
    ),
    Artifact(
        "cinn",
        "package:invkit/bundled/cinn-const-high.safetensors",
        "429b14eeaf97fb1ad05b32a5cb7ff75648817a3e50490a000df9c71a9596785d",
        "cINN of the control const, high-dose images",
    ),
)
