"""Linear and convolutional layers that start from an explicit generator, and the soft bound of log-scales."""

__all__ = ["Activation", "activation", "conv", "in_place", "linear", "soft_clamp"]

import math
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

Activation = Literal["silu", "leaky_relu"]
SLOPE = 0.01
Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


def activation(name: Activation) -> nn.Module:
    """Return SiLU, or the LeakyReLU of slope 0.01 that Rombach's coupling networks have."""
    return nn.SiLU() if name == "silu" else nn.LeakyReLU(SLOPE)


def in_place(x: Tensor, name: Activation) -> Tensor:
    """Return what `activation` makes of x, in the memory of x; without gradient."""
    if name == "silu":
        return functional.silu(x, inplace=True)
    return functional.leaky_relu(x, SLOPE, inplace=True)


def linear(
    inputs: int, outputs: int, *, generator: torch.Generator, fan_in: int | None = None, bias: bool = True
) -> nn.Linear:
    """Return a linear layer, uniform in ±1/sqrt(fan_in) as torch's own, drawn from `generator`.

    Args:
        inputs: size of the input.
        outputs: size of the output.
        generator: where the start comes from; the global generator is neither read nor set.
        fan_in: number of inputs that are summed, where this layer is one of several; `inputs` otherwise.
        bias: whether there is one.
    """
    layer = nn.Linear(inputs, outputs, bias=bias, device="meta")
    return _draw(layer, inputs if fan_in is None else fan_in, generator)


def conv(
    inputs: int, outputs: int, kernel: int, *, stride: int, padding: int, generator: torch.Generator
) -> nn.Conv2d:
    """Return a 2-D convolution that starts as `linear` does."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, device="meta")
    return _draw(layer, inputs * kernel * kernel, generator)


def soft_clamp(s: Tensor, bound: float) -> Tensor:
    """Return `bound * tanh(s / bound)`: s where it is small, never beyond ±bound."""
    return bound * torch.tanh(s / bound)


def _draw(layer: Layer, fan_in: int, generator: torch.Generator) -> Layer:
    """Return a layer with numbers. On "meta", its constructor drew none from the global generator.

    `to_empty` would do, but imports sympy and half of torch's compiler, which takes a third of a second.
    """
    bound = 1.0 / math.sqrt(max(fan_in, 1))
    for name, parameter in list(layer.named_parameters()):
        drawn = torch.empty(parameter.shape, device="cpu").uniform_(-bound, bound, generator=generator)
        setattr(layer, name, nn.Parameter(drawn))
    return layer
