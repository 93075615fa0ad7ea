"""The cINNs of layers of yang2018 that ship with this plugin."""

__all__ = ["CINNS"]

import invkit

CINNS: tuple[invkit.Artifact, ...] = (
    invkit.Artifact(
        "cinn",
        "package:invkit_yang2018/trained/yang2018-3.safetensors",
        "d63626e77ec4e563405d6584f59bb93d6706ce7d46d62471cb7b08f92495c818",
        "cINN of yang2018, layer 3",
    ),
)
