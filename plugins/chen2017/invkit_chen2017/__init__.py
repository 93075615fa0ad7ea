"""The three-layer denoiser of Chen et al. 2017 for invkit."""

from __future__ import annotations

__all__ = ["invkit_denoisers"]

from typing import TYPE_CHECKING

import invkit
from invkit_chen2017.recipe import RECIPE
from invkit_chen2017.weights import WEIGHTS

if TYPE_CHECKING:  # a plugin is described without torch
    from torch import nn

CITATION = (
    "Chen, H. et al. (2017). Low-dose CT denoising with convolutional neural network. "
    "ISBI 2017, 143-146. arXiv:1610.00321"
)
# Mean and width of HU + 1024 over the LDCT benchmark's training data (Eulig et al., Med Phys 2024).
PREPROCESSING = invkit.Affine(mean=481.4542 - 1024.0, std=502.1851)


def _build(last_kernel: int) -> nn.Module:
    from invkit_chen2017.network import Chen2017

    return Chen2017(last_kernel=last_kernel)


def build() -> nn.Module:
    """Return the network of the paper, whose last kernel is 5 x 5."""
    return _build(5)


def build_k3() -> nn.Module:
    """Return the variant whose last kernel is 3 x 3."""
    return _build(3)


def build_cnn10() -> nn.Module:
    """Return the network as the LDCT benchmark has it: the paper's, padded with zeros."""
    from invkit_chen2017.network import Chen2017

    return Chen2017(padding_mode="zeros")


# `cnn10` of github.com/eeulig/ldct-benchmark: a ModuleList `layers` in which the ReLUs are counted.
LDCT_BENCHMARK = invkit.Upstream(
    name="ldct-benchmark",
    modules={"layers.0": "conv1", "layers.2": "conv2", "layers.4": "conv3"},
    preprocessing=PREPROCESSING,
    build=build_cnn10,
    note="cnn10 of the LDCT benchmark, padded with zeros",
)


def _layers(last_kernel: int) -> tuple[invkit.Layer, ...]:
    return (
        invkit.Layer("1", module="conv1", note="conv 9x9x64, before ReLU"),
        invkit.Layer("3", module="conv2", note="conv 3x3x32, before ReLU"),
        invkit.Layer("5", module="conv3", note=f"conv {last_kernel}x{last_kernel}x1, the output"),
    )


@invkit.hookimpl
def invkit_denoisers() -> list[invkit.Denoiser]:
    """Return chen2017 and its variant with a 3 x 3 last kernel."""
    return [
        invkit.Denoiser(
            name=f"chen2017{suffix}",
            build=build_network,
            preprocessing=PREPROCESSING,
            layers=_layers(last_kernel),
            default_layer="3",
            weights=WEIGHTS[last_kernel],
            recipe=RECIPE,
            citation=CITATION,
            upstreams=(LDCT_BENCHMARK,) if last_kernel == 5 else (),
            description=f"three convolutions trained by mean squared error, last kernel {last_kernel} x {last_kernel}",
        )
        for suffix, last_kernel, build_network in (("", 5, build), ("-k3", 3, build_k3))
    ]
