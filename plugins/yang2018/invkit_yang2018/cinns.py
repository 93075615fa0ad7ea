"""The cINNs of layers of yang2018 that ship with this plugin."""

__all__ = ["CINNS"]

import invkit

CINNS: tuple[invkit.Artifact, ...] = (
    invkit.Artifact(
        "cinn",
        "package:invkit_yang2018/trained/yang2018-3.safetensors",
        "d33bd9d80ef81cdf9c9acb0eb6d4d13f3348e1502b0652c09ca33b72f0369ba4",
        "cINN of yang2018, layer 3",
    ),
)
