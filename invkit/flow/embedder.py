"""Embedders H: from a condition of any shape to the vector h that the flow is conditioned on."""

__all__ = ["CodeEmbedder", "ConvEmbedder", "Embedder", "MlpEmbedder", "make_embedder"]

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from invkit.errors import ConfigError
from invkit.flow.actnorm import ChannelNorm
from invkit.flow.config import CinnConfig
from invkit.flow.layers import conv, linear
from invkit.flow.regression import LinearStart


class Embedder(nn.Module, ABC):
    """h = readout(features(condition)): the last map is linear, so that its start can be computed.

    With `CinnConfig.affine` the first 2 d numbers of h are (m, s) of the conditional affine part and the
    others the context that the couplings see; without it h is the context alone.

    Args:
        features: size of the features.
        k: size of h.
        generator: where the start comes from.
    """

    def __init__(self, features: int, k: int, *, generator: torch.Generator) -> None:
        super().__init__()
        self.readout = linear(features, k, generator=generator)

    @abstractmethod
    def features(self, condition: Tensor) -> Tensor:
        """Map conditions `(B, ...)` to features `(B, f)`."""

    @abstractmethod
    def initialise(self, condition: Tensor) -> None:
        """Set normalisations from a first batch of conditions `(B, ...)`."""

    def forward(self, condition: Tensor) -> Tensor:
        """Map conditions `(B, ...)` to h `(B, k)`."""
        h: Tensor = self.readout(self.features(condition))
        return h

    @torch.no_grad()
    def set_start(self, start: LinearStart) -> None:
        """Let the first 2 d numbers of h be the regression's (m, s)."""
        weight = torch.cat([start.mean_weight, start.scale_weight])
        self.readout.weight[: len(weight)] = weight.to(self.readout.weight)
        self.readout.bias[: len(weight)] = torch.cat([start.mean_bias, start.scale_bias]).to(
            self.readout.bias
        )


class _Standard(nn.Module):
    """Flatten, subtract the mean, divide by the standard deviation of the first batch, each number alone."""

    centre: Tensor
    scale: Tensor

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(inputs))
        self.register_buffer("scale", torch.ones(inputs))

    def forward(self, condition: Tensor) -> Tensor:
        return (condition.flatten(1) - self.centre) / self.scale

    def initialise(self, condition: Tensor) -> None:
        flat = condition.flatten(1)
        std = flat.std(0, correction=0)
        self.centre.copy_(flat.mean(0))
        # a number that never changes carries nothing, and would turn rounding into signal
        self.scale.copy_(torch.where(std > 1e-5 * (1.0 + flat.abs().amax(0)), std, 1.0))


class CodeEmbedder(Embedder):
    """For a flat condition that is nearly a code itself: a linear skip plus a perceptron that starts at zero.

    ``h = readout(c) + perceptron(c)`` with c the standardised condition. The skip starts as the regression of
    the codes on the condition; the perceptron learns what is not linear.

    Args:
        shape: shape of one condition; it is flattened.
        k: size of h.
        solved: how many of h's first numbers the regression sets; there the perceptron starts at zero.
        hidden: width of the perceptron.
        generator: where the start comes from.
    """

    def __init__(
        self, shape: tuple[int, ...], k: int, *, solved: int, hidden: int, generator: torch.Generator
    ) -> None:
        inputs = math.prod(shape)
        super().__init__(inputs, k, generator=generator)
        self.standard = _Standard(inputs)
        self.hidden = linear(inputs, hidden, generator=generator)
        self.out = linear(hidden, k, generator=generator)
        with torch.no_grad():
            self.out.weight[:solved].zero_()
            self.out.bias.zero_()

    def features(self, condition: Tensor) -> Tensor:
        """Return the standardised condition `(B, f)`."""
        standard: Tensor = self.standard(condition)
        return standard

    def initialise(self, condition: Tensor) -> None:
        """Take mean and standard deviation of the condition."""
        self.standard.initialise(condition)

    def forward(self, condition: Tensor) -> Tensor:
        """Map conditions `(B, ...)` to h `(B, k)`."""
        c = self.features(condition)
        h: Tensor = self.readout(c) + self.out(functional.silu(self.hidden(c)))
        return h


class MlpEmbedder(Embedder):
    """For a flat condition: a perceptron of two hidden layers, without a skip.

    Args:
        shape: shape of one condition; it is flattened.
        k: size of h.
        hidden: width of the perceptron.
        generator: where the start comes from.
    """

    def __init__(self, shape: tuple[int, ...], k: int, *, hidden: int, generator: torch.Generator) -> None:
        super().__init__(hidden, k, generator=generator)
        inputs = math.prod(shape)
        self.standard = _Standard(inputs)
        self.inner = nn.Sequential(
            linear(inputs, hidden, generator=generator),
            nn.LeakyReLU(0.2),
            linear(hidden, hidden, generator=generator),
            nn.LeakyReLU(0.2),
        )

    def features(self, condition: Tensor) -> Tensor:
        """Map conditions `(B, ...)` to the last hidden layer `(B, hidden)`."""
        inner: Tensor = self.inner(self.standard(condition))
        return inner

    def initialise(self, condition: Tensor) -> None:
        """Take mean and standard deviation of the condition."""
        self.standard.initialise(condition)


class ConvEmbedder(Embedder):
    """For a spatial condition: strided 4x4 convolutions with ActNorm and LeakyReLU 0.2, then one over all.

    As published by Rombach et al. 2020: channels double from `channels` up to eight times that, until the
    maps are at most 4 pixels wide; the last convolution covers what is left, linear in the flattened maps.
    One more ActNorm stands before them all, since activations come in any scale.

    Args:
        shape: shape of one condition, `(C, H, W)`.
        k: size of h.
        channels: of the first convolution.
        generator: where the start comes from.

    Raises:
        ConfigError: the condition is not spatial.
    """

    def __init__(self, shape: tuple[int, ...], k: int, *, channels: int, generator: torch.Generator) -> None:
        if len(shape) != 3:
            raise ConfigError(
                f"a conv embedder needs a condition (C, H, W), got {shape}; use 'code' or 'mlp'"
            )
        inputs, height, width = shape
        convs, norms = [], []
        outputs = channels
        while max(height, width) > 4 and min(height, width) >= 2:
            convs.append(conv(inputs, outputs, 4, stride=2, padding=1, generator=generator))
            norms.append(ChannelNorm(outputs))
            inputs, outputs = outputs, min(2 * outputs, 8 * channels)
            height, width = height // 2, width // 2
        super().__init__(inputs * height * width, k, generator=generator)
        self.entry = ChannelNorm(shape[0])
        self.convs, self.norms = nn.ModuleList(convs), nn.ModuleList(norms)

    def features(self, condition: Tensor) -> Tensor:
        """Map conditions `(B, C, H, W)` to flattened maps `(B, f)`."""
        maps = self.entry.normalise(condition)
        for convolution, norm in zip(self.convs, self.norms, strict=True):
            assert isinstance(norm, ChannelNorm)
            maps = functional.leaky_relu(norm.normalise(convolution(maps)), 0.2)
        return maps.flatten(1)

    @torch.no_grad()
    def initialise(self, condition: Tensor) -> None:
        """Set every ActNorm from this batch, from the first layer on."""
        self.entry.initialise_maps(condition)
        maps = self.entry.normalise(condition)
        for convolution, norm in zip(self.convs, self.norms, strict=True):
            assert isinstance(norm, ChannelNorm)
            raw = convolution(maps)
            norm.initialise_maps(raw)
            maps = functional.leaky_relu(norm.normalise(raw), 0.2)


def make_embedder(shape: tuple[int, ...], config: CinnConfig, *, generator: torch.Generator) -> Embedder:
    """Return the embedder for conditions of this shape.

    Args:
        shape: shape of one condition, without the batch: `(C, H, W)` is spatial, any other is flat.
        config: `embedder` and the sizes are read.
        generator: where the start comes from.

    Raises:
        ConfigError: the embedder does not fit the shape, or the condition is empty.
    """
    if math.prod(shape) == 0 or not shape:
        raise ConfigError(f"a condition of shape {shape} is empty")
    solved = 2 * config.d if config.affine else 0
    k = solved + config.context
    kind = config.embedder
    if kind == "auto":
        kind = "conv" if len(shape) == 3 else "code"
    if kind == "conv":
        return ConvEmbedder(shape, k, channels=config.embedder_channels, generator=generator)
    if kind == "mlp":
        return MlpEmbedder(shape, k, hidden=config.embedder_hidden, generator=generator)
    return CodeEmbedder(shape, k, solved=solved, hidden=config.embedder_hidden, generator=generator)
