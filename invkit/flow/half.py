"""Perceptrons in bfloat16 whose weights are kept in float32."""

__all__ = ["HalfPerceptron"]

import itertools
import operator
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.optim.optimizer import register_optimizer_step_post_hook

from invkit.flow.layers import SLOPE, Activation

HALF = torch.bfloat16
# What oneDNN calls the activations, and their parameters.
ONEDNN: dict[Activation | None, tuple[str, list[float]]] = {
    None: ("none", []),
    "silu": ("swish", []),
    "leaky_relu": ("leaky_relu", [SLOPE]),
}


class _Steps:
    """How many steps all optimisers have taken: fused ones change weights without a trace in their version."""

    taken = 0

    @classmethod
    def count(cls, *_: Any) -> None:
        cls.taken += 1


register_optimizer_step_post_hook(_Steps.count)


class HalfPerceptron:
    """A perceptron of (a, h) in bfloat16 that follows the weights of float32 layers.

    Autocast rounds all weights at every step into fresh memory, and on a CPU clearing that memory costs about as
    much as rounding does. Here the rounded weights keep their place and are renewed where a weight has changed;
    and the perceptron is one node of autograd's graph, so that its gradient is taken once, in bfloat16, with
    gradients of the weights in float32.

    Args:
        code: the part of the first layer that belongs to a, with the bias.
        condition: the part that belongs to h, without one.
        others: the layers after it.
        activation: between layers.
    """

    def __init__(
        self, code: nn.Linear, condition: nn.Linear, others: Sequence[nn.Linear], activation: Activation
    ) -> None:
        self.activation: Activation = activation
        self.inputs = code.in_features
        self._layers = (code, condition, *others)
        self.weights: list[Tensor] = []
        self.biases: list[Tensor] = []
        # What was rounded last, and what it was like.
        self._sources: list[Tensor] = []
        self._seen: list[int] = []

    @property
    def sources(self) -> list[Tensor]:
        """The float32 weights, then the biases, as the layers have them now."""
        code, _, *others = self._layers
        return [*(layer.weight for layer in self._layers), *(layer.bias for layer in (code, *others))]

    def __call__(self, a: Tensor, h: Tensor) -> Tensor:
        """Map a `(..., B, inputs)` and h `(B, k)` in float32 to `(..., B, outputs)` in float32."""
        sources = self.sources
        self._follow(sources)
        if not torch.is_grad_enabled():
            return self._draw(a.to(HALF), h.to(HALF)).to(a.dtype)
        if a.ndim == h.ndim == 2:
            out: Tensor = _Perceptron.apply(self, a, h, *sources)  # type: ignore[no-untyped-call]
            return out
        rows, each = a.reshape(-1, self.inputs), h.expand(*a.shape[:-1], -1)
        return self(rows, each.reshape(len(rows), -1)).reshape(*a.shape[:-1], -1)

    @torch.no_grad()
    def _follow(self, sources: list[Tensor]) -> None:
        each = ((source.data_ptr(), source._version) for source in sources)
        now = [_Steps.taken, *itertools.chain.from_iterable(each)]
        same = len(sources) == len(self._sources) and all(map(operator.is_, sources, self._sources))
        if same and now == self._seen:
            return
        code, condition, *rest = sources
        if not same or self.weights[0].device != code.device:
            first = code.new_empty(len(code), code.shape[1] + condition.shape[1], dtype=HALF)
            others = [torch.empty_like(source, dtype=HALF) for source in rest]
            layers = len(self._layers) - 1
            self.weights, self.biases = [first, *others[: layers - 1]], others[layers - 1 :]
        first = self.weights[0]
        rounded = [first[:, : self.inputs], first[:, self.inputs :], *self.weights[1:], *self.biases]
        torch._foreach_copy_(rounded, sources)
        self._sources, self._seen = sources, now
        self.__dict__.pop("_fused", None)

    @cached_property
    def _fused(self) -> list["_Fused"]:
        """The layers for drawing, the first without the part that belongs to h."""
        return [_Fused(w) for w in (self.weights[0][:, : self.inputs].contiguous(), *self.weights[1:])]

    def _draw(self, a: Tensor, h: Tensor) -> Tensor:
        # What h adds is computed once for each image; of a single image it is a bias.
        added = functional.linear(h, self.weights[0][:, self.inputs :], self.biases[0])
        first, *others = self._fused
        only = len(others) == 0
        activation = None if only else self.activation
        if len(added) == 1:
            x = first(a, added[0], activation)
        else:
            x = functional.linear(a, first.weight) + added
            x = x if only else apply(x, self.activation)
        for index, layer in enumerate(others, 1):
            x = layer(x, self.biases[index], self.activation if index < len(others) else None)
        return x


def apply(x: Tensor, activation: Activation) -> Tensor:
    """Return what an activation makes of x, in the memory of x."""
    if activation == "silu":
        return functional.silu(x, inplace=True)
    return functional.leaky_relu(x, SLOPE, inplace=True)


class _Fused:
    """A linear layer and its activation as one kernel, its weight laid out for it, where oneDNN has one."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        self.laid_out: Tensor | None = None
        if weight.device.type == "cpu" and torch.backends.mkldnn.is_available():
            # What torch.compile calls, too; it has no public name.
            self.laid_out = torch.ops.mkldnn._reorder_linear_weight(weight)

    def __call__(self, x: Tensor, bias: Tensor, activation: Activation | None) -> Tensor:
        if self.laid_out is not None:
            out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.laid_out, bias, *ONEDNN[activation], "")
            return out
        out = functional.linear(x, self.weight, bias)
        return out if activation is None else apply(out, activation)


class _Perceptron(torch.autograd.Function):
    """The perceptron on a `(B, inputs)` and h `(B, k)`, with its gradient."""

    @staticmethod
    def forward(ctx: Any, half: HalfPerceptron, a: Tensor, h: Tensor, *sources: Tensor) -> Tensor:
        """Keep what enters each layer, and what enters each activation where its gradient needs that."""
        x, given, kept = torch.cat([a.to(HALF), h.to(HALF)], -1), [], []
        last = len(half.weights) - 1
        for index, (weight, bias) in enumerate(zip(half.weights, half.biases, strict=True)):
            given.append(x)
            x = functional.linear(x, weight, bias)
            if index < last and half.activation == "silu":
                kept.append(x)
                x = functional.silu(x)
            elif index < last:
                kept.append(x := functional.leaky_relu(x, SLOPE, inplace=True))
        ctx.half = half
        ctx.save_for_backward(*given, *kept, *half.weights)
        return x.to(a.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of a, h, the weights and the biases, all in float32."""
        half: HalfPerceptron = ctx.half
        count = len(half.weights)
        given, kept, weights = (
            ctx.saved_tensors[:count],
            ctx.saved_tensors[count : 2 * count - 1],
            ctx.saved_tensors[2 * count - 1 :],
        )
        g = grad.to(HALF)
        of_weights: list[Tensor] = []
        of_biases: list[Tensor] = []
        for index in reversed(range(count)):
            found = g.T @ given[index]
            pieces = (found,) if index else (found[:, half.inputs :], found[:, : half.inputs])
            of_weights.extend(piece.to(grad.dtype) for piece in pieces)
            of_biases.append(g.sum(0, dtype=grad.dtype))
            if index:
                g = _through(half.activation, g @ weights[index], kept[index - 1])
        parts = weights[0][:, : half.inputs], weights[0][:, half.inputs :]
        of_a, of_h = (
            (g @ part).to(grad.dtype) if needed else None
            for part, needed in zip(parts, ctx.needs_input_grad[1:3], strict=True)
        )
        return None, of_a, of_h, *reversed(of_weights), *reversed(of_biases)


def _through(activation: Activation, g: Tensor, kept: Tensor) -> Tensor:
    out: Tensor
    if activation == "silu":
        out = torch.ops.aten.silu_backward(g, kept)
    else:
        out = torch.ops.aten.leaky_relu_backward(g, kept, SLOPE, True)
    return out
