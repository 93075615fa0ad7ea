"""The cINNs of layers of yang2018 that ship with this plugin."""

__all__ = ["CINNS"]

import invkit

CINNS: tuple[invkit.Artifact, ...] = (
    invkit.Artifact(
        "cinn",
        "package:invkit_yang2018/trained/yang2018-3.safetensors",
        "b9122c9abccda138ec66736bee5d836a1674411756aae4a91a7c28730319c369",
        "cINN of yang2018, layer 3",
    ),
)
