"""The cINNs of layers of yang2018 that ship with this plugin."""

__all__ = ["CINNS"]

import invkit

CINNS: tuple[invkit.Artifact, ...] = (
    invkit.Artifact(
        "cinn",
        "package:invkit_yang2018/trained/yang2018-3.safetensors",
        "74b8228c95f8b53ff585919d54a72c5d068610aa39f6df9587ad437ecde742c5",
        "cINN of yang2018, layer 3",
    ),
)
