"""The cINNs of layers of yang2018 that ship with this plugin."""

__all__ = ["CINNS"]

import invkit

CINNS: tuple[invkit.Artifact, ...] = (
    invkit.Artifact(
        "cinn",
        "package:invkit_yang2018/trained/yang2018-3.safetensors",
        "12d5b511a5514a827128bcbbaa21bfc59170f29099a28ebacb0e1baffb07e3ab",
        "cINN of yang2018, layer 3",
    ),
)
