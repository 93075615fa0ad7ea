"""The cINNs of layers of yang2018 that ship with this plugin."""

__all__ = ["CINNS"]

import invkit

CINNS: tuple[invkit.Artifact, ...] = (
    invkit.Artifact(
        "cinn",
        "package:invkit_yang2018/trained/yang2018-3.safetensors",
        "303ce4a8d806d688ff75e0ba718953bc1eaf44c7e3e536ad680d6e702087cac1",
        "cINN of yang2018, layer 3",
    ),
)
