"""Settings of the conditional invertible network and of its training, with the published sizes as presets."""

__all__ = ["PRESETS", "CinnConfig"]

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from invkit.flow.layers import Activation
from invkit.flow.mixing import Mixing


class CinnConfig(BaseModel):
    """What decides the network t(z_bar | z) and how it is trained.

    Args:
        d: size of a code.
        blocks: number of blocks (ActNorm, double coupling, mixing).
        hidden: width of the coupling networks.
        depth: hidden layers of a coupling network after its first.
        separate: one network for the scale and one for the shift, as published, instead of one for both.
        activation: inside the coupling networks.
        clamp: soft bound of a coupling's log-scale.
        mixing: a fixed permutation or a fixed rotation.
        affine: begin with the conditional affine layer and the whitening, whose start is computed from the
            data.
        embedder: `auto` takes strided convolutions for a spatial condition `(C, H, W)`, a code embedder for a
            flat one.
        context: size of the embedding that the couplings see.
        embedder_hidden: width of the embedder's perceptron.
        embedder_channels: channels of the first strided convolution; they double with each, up to eight
            times.
        bf16: false. It switched something once; files state it, and the keys that they are found by count it.
        seed: of the mixing and of the start of all parameters.
        batch: rows in a step.
        steps: optimiser steps.
        lr: learning rate of Adam; rises over `warmup` steps, then decays to nothing by a cosine. What has a start
            in closed form moves at a tenth of it.
        warmup: see `lr`.
        decay: whether the learning rate decays.
        betas: of Adam.
        clip_norm: largest norm of the gradient.
        evaluate_every: steps between two looks at the held-out rows.
        patience: looks without gain after which training ends.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    d: int = Field(256, ge=2)
    blocks: int = Field(4, ge=0)
    hidden: int = Field(96, ge=1)
    depth: int = Field(1, ge=0)
    separate: bool = False
    activation: Activation = "silu"
    clamp: float = Field(2.0, gt=0)
    mixing: Mixing = "permutation"
    affine: bool = True
    embedder: Literal["auto", "code", "conv", "mlp"] = "auto"
    context: int = Field(64, ge=1)
    embedder_hidden: int = Field(256, ge=1)
    embedder_channels: int = Field(64, ge=1)
    bf16: Literal[False] = False
    seed: int = 0
    batch: int = Field(192, ge=1)
    steps: int = Field(2000, ge=1)
    lr: float = Field(1e-3, gt=0)
    warmup: int = Field(50, ge=0)
    decay: bool = True
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = Field(5.0, gt=0)
    evaluate_every: int = Field(200, ge=1)
    patience: int | None = Field(4, ge=1)

    @classmethod
    def paper(cls) -> Self:
        """Return the sizes of Rombach et al. 2020: 189 M parameters without the embedder."""
        return cls.model_validate(PRESETS["paper"])

    @classmethod
    def eulig(cls) -> Self:
        """Return the sizes of Eulig et al. 2025: 126 M parameters without the embedder."""
        return cls.model_validate(PRESETS["eulig"])


PUBLISHED = {
    "hidden": 1024,
    "depth": 2,
    "separate": True,
    "activation": "leaky_relu",
    "clamp": 1.0,  # s ends in tanh
    "mixing": "permutation",
    "affine": False,
    "warmup": 0,
    "decay": False,
    "patience": None,
}

PRESETS: dict[str, dict[str, object]] = {
    "default": {},
    # Rombach, Esser, Ommer, ECCV 2020 (arXiv 2008.01777): Adam(0.5, 0.9), lr 7.2e-5, batch 16, 250 k steps.
    "paper": PUBLISHED
    | {
        "d": 128,
        "blocks": 20,
        "context": 128,
        "batch": 16,
        "steps": 250_000,
        "lr": 7.2e-5,
        "betas": (0.5, 0.9),
    },
    # Eulig et al., Med Phys 52(1), 2025 (doi 10.1002/mp.17413): lr 1e-5, batch 128, about 47 k steps; the betas are
    # those of its public code (github.com/eeulig/ldct-invariances, configs/cinn.yaml).
    "eulig": PUBLISHED
    | {
        "d": 256,
        "blocks": 12,
        "context": 256,
        "batch": 128,
        "steps": 47_000,
        "lr": 1e-5,
        "betas": (0.9, 0.999),
    },
}
