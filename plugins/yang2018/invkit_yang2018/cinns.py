"""The cINNs of layers of yang2018 that ship with this plugin."""

__all__ = ["CINNS"]

import invkit

CINNS: tuple[invkit.Artifact, ...] = (
    invkit.Artifact(
        "cinn",
        "package:invkit_yang2018/trained/yang2018-3.safetensors",
        "22cd424d3381d35151f2b1ed1f62caa969541ac07928cbebb77b29678442bef5",
        "cINN of yang2018, layer 3",
    ),
)
