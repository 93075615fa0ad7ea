"""Settings of the conditional invertible network and of its training."""

__all__ = ["CinnConfig"]

from typing import Literal

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
