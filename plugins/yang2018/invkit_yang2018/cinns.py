"""The cINNs of layers of yang2018 that ship with this plugin."""

__all__ = ["CINNS"]

import invkit

CINNS: tuple[invkit.Artifact, ...] = (
    invkit.Artifact(
        "cinn",
        "package:invkit_yang2018/trained/yang2018-3.safetensors",
        "31c159ae8b1eb9db57dc64d99565a2f062d2cb17aa1aeee08d3c90a045a9bcc4",
        "cINN of yang2018, layer 3",
    ),
)
