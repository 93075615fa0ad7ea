"""The WGAN denoiser of Yang et al. 2018 for invkit."""

from __future__ import annotations

__all__ = ["invkit_artifacts", "invkit_denoisers"]

from typing import TYPE_CHECKING

import invkit
from invkit_yang2018.cinns import CINNS
from invkit_yang2018.recipe import RECIPE
from invkit_yang2018.weights import WEIGHTS

if TYPE_CHECKING:  # a plugin is described without torch
    from torch import nn

CITATION = (
    "Yang, Q. et al. (2018). Low-dose CT image denoising using a generative adversarial network with Wasserstein "
    "distance and perceptual loss. IEEE Trans Med Imaging 37(6), 1348-1357. arXiv:1708.00961"
)
# Mean and width of HU + 1024 over the LDCT benchmark's training data (Eulig et al., Med Phys 2024).
PREPROCESSING = invkit.Affine(mean=481.4542 - 1024.0, std=502.1851)


def build() -> nn.Module:
    """Return the paper's generator."""
    from invkit_yang2018.network import Yang2018

    return Yang2018()


# `wganvgg` of github.com/eeulig/ldct-benchmark: a Sequential `net` in which the ReLUs are counted.
LDCT_BENCHMARK = invkit.Upstream(
    name="ldct-benchmark",
    modules={f"net.{2 * k - 2}": f"conv{k}" for k in range(1, 9)},
    preprocessing=PREPROCESSING,
    note="wganvgg of the LDCT benchmark",
)


@invkit.hookimpl
def invkit_denoisers() -> list[invkit.Denoiser]:
    """Return yang2018."""
    return [
        invkit.Denoiser(
            name="yang2018",
            build=build,
            preprocessing=PREPROCESSING,
            layers=(
                *(
                    invkit.Layer(str(k), module=f"conv{k}", note=f"conv 3x3x32, before ReLU {k} of 7")
                    for k in range(1, 8)
                ),
                invkit.Layer("8", module="conv8", note="conv 3x3x1, the output"),
            ),
            default_layer="3",
            weights=WEIGHTS,
            recipe=RECIPE,
            citation=CITATION,
            upstreams=(LDCT_BENCHMARK,),
            description="eight convolutions trained as a Wasserstein GAN with a perceptual term",
        )
    ]


@invkit.hookimpl
def invkit_artifacts() -> tuple[invkit.Artifact, ...]:
    """Return the trained cINN of layer 3."""
    return CINNS
