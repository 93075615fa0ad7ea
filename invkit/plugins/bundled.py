"""The trained parts that ship with invkit; how each was made is one command in `docs/bundled.md`."""

from __future__ import annotations

__all__ = ["BUNDLED"]

from invkit.plugins.records import Artifact

BUNDLED: tuple[Artifact, ...] = (
    Artifact(
        "vae",
        "package:invkit/bundled/vae-low.safetensors",
        "1520db472a12ccd29b1ae2e2d5e9ff5ac6ad3a1c32df3db33d39c95a98d2a9c0",
        "VAE of low-dose images",
        meta={"default_for": "low"},
    ),
    Artifact(
        "vae",
        "package:invkit/bundled/vae-high.safetensors",
        "eab8b4fc24ff7aab9f10ae1f9f6daa632c02c217b4a4e53b689df121a60dd885",
        "VAE of full-dose images",
        meta={"default_for": "high"},
    ),
    Artifact(
        "cinn",
        "package:invkit/bundled/cinn-input.safetensors",
        "c11f4156abbdaaea6d9500ec7fd7d231eb71ee054f87fe138684f305030e939a",
        "cINN of the control input",
    ),
    Artifact(
        "cinn",
        "package:invkit/bundled/cinn-const.safetensors",
        "8780ba16fcbc010fbddf6e0d13834181ed41215a2e188c813c3274f57c451fc3",
        "cINN of the control const",
    ),
    Artifact(
        "cinn",
        "package:invkit/bundled/cinn-input-high.safetensors",
        "bad7bf33ea4c57b27007d3a70f69a3f75ee3f2cd3e53a5f435f8a7243ca3ac23",
        "cINN of the control input, high-dose images",
    ),
    Artifact(
        "cinn",
        "package:invkit/bundled/cinn-const-high.safetensors",
        "5059e341d1bfef261beec730badbb53df318ad3ee5acc4b1447b1b3029ece88b",
        "cINN of the control const, high-dose images",
    ),
)
