"""Conditional affine couplings: each half of the code is scaled and shifted by the other half and h."""

__all__ = ["Block", "Coupling", "CouplingNet"]

import torch
from torch import Tensor, nn

from invkit.flow.actnorm import ActNorm
from invkit.flow.base import Part
from invkit.flow.config import CinnConfig
from invkit.flow.layers import activation, in_place, linear, soft_clamp
from invkit.flow.mixing import make_mixing


class CouplingNet(nn.Module):
    """The perceptron inside a coupling, from (a, h) to the outputs; its last layer starts at zero.

    The first layer is one linear map of a and h concatenated, kept as two: h may then stay `(B, k)` while a
    is `(N, B, inputs)`, and the part that belongs to h is computed once for each image.

    Args:
        inputs: size of a.
        k: size of h.
        outputs: size of the result.
        config: `hidden`, `depth` and `activation` are read.
        generator: where the start comes from.
    """

    def __init__(
        self, inputs: int, k: int, outputs: int, config: CinnConfig, *, generator: torch.Generator
    ) -> None:
        super().__init__()
        hidden, fan_in = config.hidden, inputs + k
        self.code = linear(inputs, hidden, generator=generator, fan_in=fan_in)
        self.condition = linear(k, hidden, generator=generator, fan_in=fan_in, bias=False)
        inner: list[nn.Module] = [activation(config.activation)]
        for _ in range(config.depth):
            inner += [linear(hidden, hidden, generator=generator), activation(config.activation)]
        self.inner = nn.Sequential(*inner)
        self.last = linear(hidden, outputs, generator=generator)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.activation = config.activation

    def forward(self, a: Tensor, h: Tensor) -> Tensor:
        """Map a `(..., B, inputs)` and h `(B, k)` to `(..., B, outputs)`."""
        x: Tensor
        if torch.is_grad_enabled():
            x = self.inner(self.code(a) + self.condition(h))
        else:
            # In place: fresh memory costs more than what is computed in it.
            x = self.code(a)
            x += self.condition(h)
            for layer in self.inner:
                x = layer(x) if isinstance(layer, nn.Linear) else in_place(x, self.activation)
        result: Tensor = self.last(x)
        return result


class Coupling(Part):
    """Double affine coupling on halves a, b of the code.

    ``b' = b * exp(s1(a, h)) + t1(a, h)``, then ``a' = a * exp(s2(b', h)) + t2(b', h)``;
    ``log_det = sum s1 + sum s2`` (Dinh et al. 2017, section 3.2; with a condition as in Rombach et al. 2020).

    Scales are bounded softly by `clamp`.

    Args:
        d: number of dimensions.
        k: size of h.
        config: `clamp`, `separate` and what `CouplingNet` reads.
        generator: where the start comes from.
    """

    def __init__(self, d: int, k: int, config: CinnConfig, *, generator: torch.Generator) -> None:
        super().__init__()
        self.sizes = [d // 2, d - d // 2]
        self.clamp = config.clamp
        first, second = self.sizes
        self.first = self._nets(first, k, second, config, generator)
        self.second = self._nets(second, k, first, config, generator)

    @staticmethod
    def _nets(
        inputs: int, k: int, size: int, config: CinnConfig, generator: torch.Generator
    ) -> nn.ModuleList:
        outputs = (size, size) if config.separate else (2 * size,)
        return nn.ModuleList(CouplingNet(inputs, k, n, config, generator=generator) for n in outputs)

    @property
    def idle(self) -> bool:
        """Whether it maps every code to itself, as it does before any training."""
        last = [
            net.last for nets in (self.first, self.second) for net in nets if isinstance(net, CouplingNet)
        ]
        return not any(bool(numbers.any()) for layer in last for numbers in layer.parameters())

    def _scale_shift(self, nets: nn.ModuleList, a: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        found = [net(a, h) for net in nets]
        s, t = found[0].chunk(2, -1) if len(found) == 1 else found
        return soft_clamp(s, self.clamp), t

    def forward(self, z_bar: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift both halves."""
        a, b = torch.split(z_bar, self.sizes, -1)
        s1, t1 = self._scale_shift(self.first, a, h)
        b = b * s1.exp() + t1
        s2, t2 = self._scale_shift(self.second, b, h)
        a = a * s2.exp() + t2
        return torch.cat([a, b], -1), s1.sum(-1) + s2.sum(-1)

    def inverse(self, v: Tensor, h: Tensor) -> Tensor:
        """Undo `forward`, the second half first."""
        a, b = torch.split(v, self.sizes, -1)
        s2, t2 = self._scale_shift(self.second, b, h)
        a = (a - t2) * (-s2).exp()
        s1, t1 = self._scale_shift(self.first, a, h)
        b = (b - t1) * (-s1).exp()
        return torch.cat([a, b], -1)


class Block(Part):
    """ActNorm, double coupling, fixed mixing: one block of the published network; `coupling` may be left out.

    Args:
        d: number of dimensions.
        k: size of h.
        config: what the parts read.
        seed: of the mixing.
        generator: where the start of the coupling comes from.
    """

    def __init__(self, d: int, k: int, config: CinnConfig, *, seed: int, generator: torch.Generator) -> None:
        super().__init__()
        self.norm = ActNorm(d)
        self.coupling: Coupling | None = Coupling(d, k, config, generator=generator)
        self.mixing = make_mixing(config.mixing, d, seed)

    def forward(self, z_bar: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the three parts."""
        z_bar, log_det = self.norm(z_bar, h)
        if self.coupling is not None:
            z_bar, of_coupling = self.coupling(z_bar, h)
            log_det = log_det + of_coupling
        v, _ = self.mixing(z_bar, h)  # which keeps volumes, whatever its kind
        return v, log_det

    def inverse(self, v: Tensor, h: Tensor) -> Tensor:
        """Undo them from the last to the first."""
        z_bar = self.mixing.inverse(v, h)
        if self.coupling is not None:
            z_bar = self.coupling.inverse(z_bar, h)
        return self.norm.inverse(z_bar, h)

    def initialise(self, z_bar: Tensor, h: Tensor) -> None:
        """Set the start of the ActNorm."""
        self.norm.initialise(z_bar, h)
