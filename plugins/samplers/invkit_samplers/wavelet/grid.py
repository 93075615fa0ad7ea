"""Invertible layers on grids of channels, each bounded so that no parameters and no condition let a sample run away."""

__all__ = ["GridAffine", "GridCoupling", "GridWhitening"]

import torch
from torch import Tensor, nn
from torch.nn import functional

from invkit.samplers import in_float64, mixed_precision, soft_clamp
from invkit_samplers.wavelet.config import WaveletConfig


class GridWhitening(nn.Module):
    """y = exp(s) * Q^T (x - b) at every position, with Q a fixed rotation of the channels.

    From data, Q and s start as the eigenvectors and eigenvalues of the covariance of the channels, so that y has covariance 1
    over a position. log_det is the sum of s times the number of positions. Q is orthogonal up to rounding only, so its inverse
    and determinant are computed.

    Args:
        channels: of the grid.
    """

    rotation: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("rotation", torch.eye(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.centre = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map x `(B, c, h, w)` to y of the same shape and log_det `(B,)`."""
        y = _mix(x - self.centre[:, None, None], self.rotation) * self.log_scale.exp()[:, None, None]
        return y, ((self.log_scale.sum() + _volume(self.rotation)) * (x.shape[-2] * x.shape[-1])).expand(
            len(x)
        )

    def inverse(self, y: Tensor) -> Tensor:
        """Undo `forward`."""
        x = _mix(y * (-self.log_scale).exp()[:, None, None], torch.linalg.inv(self.rotation))
        return x + self.centre[:, None, None]

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """Whiten examples `(n, c, h, w)`; a direction in which nothing varies is treated as if a little did."""
        rows = in_float64(x).movedim(1, -1).flatten(0, -2)
        centre = rows.mean(0)
        covariance = (rows - centre).T @ (rows - centre) / len(rows)
        values, vectors = torch.linalg.eigh(covariance)
        floor = (1e-8 * values[-1]).clamp_min(1e-12)
        self.centre.copy_(centre)
        self.rotation.copy_(vectors)
        self.log_scale.copy_(-0.5 * values.maximum(floor).log())


class GridAffine(nn.Module):
    """y = (x - m(h)) * exp(s(h)) at every position: what the condition expects of a coefficient, and how surely.

    m and s are bounded softly and start at 0.
    """

    def __init__(self, channels: int, config: WaveletConfig) -> None:
        super().__init__()
        self.bounds = (config.mean_bound, config.spread_bound)
        self.net = nn.Conv2d(config.context, 2 * channels, 1)
        nn.init.zeros_(self.net.weight)
        nn.init.zeros_(torch.as_tensor(self.net.bias))

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Map x `(B, c, h, w)` to y of the same shape and log_det `(B,)`."""
        m, s = self._moments(h)
        return (x - m) * s.exp(), s.flatten(1).sum(1).expand(len(x))

    def inverse(self, y: Tensor, h: Tensor) -> Tensor:
        """Undo `forward`."""
        m, s = self._moments(h)
        return y * (-s).exp() + m

    def _moments(self, h: Tensor) -> tuple[Tensor, Tensor]:
        m, s = self.net(h).chunk(2, dim=1)
        return soft_clamp(m, self.bounds[0]), soft_clamp(s, self.bounds[1])


class GridCoupling(nn.Module):
    """A fixed rotation of the channels, then a double affine coupling whose networks are convolutions.

    b' = b exp(s1(a, h)) + t1(a, h); a' = a exp(s2(b', h)) + t2(b', h). Scales and shifts are bounded softly, and the networks
    start at 0.

    Args:
        channels: of the grid, at least 2.
        config: sizes and bounds.
        generator: of the rotation.
    """

    rotation: Tensor

    def __init__(self, channels: int, config: WaveletConfig, *, generator: torch.Generator) -> None:
        super().__init__()
        self.first_half = channels // 2
        rest = channels - self.first_half
        self.register_buffer(
            "rotation", torch.linalg.qr(torch.randn(channels, channels, generator=generator))[0]
        )
        self.of_a = _Network(self.first_half, rest, config)
        self.of_b = _Network(rest, self.first_half, config)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Map x `(B, c, h, w)` to y of the same shape and log_det `(B,)`."""
        a, b = _mix(x, self.rotation).tensor_split([self.first_half], dim=1)
        s1, t1 = self.of_a(a, h)
        b = b * s1.exp() + t1
        s2, t2 = self.of_b(b, h)
        a = a * s2.exp() + t2
        volume = _volume(self.rotation) * (x.shape[-2] * x.shape[-1])
        return torch.cat([a, b], dim=1), s1.flatten(1).sum(1) + s2.flatten(1).sum(1) + volume

    def inverse(self, y: Tensor, h: Tensor) -> Tensor:
        """Undo `forward`."""
        a, b = y.tensor_split([self.first_half], dim=1)
        s2, t2 = self.of_b(b, h)
        a = (a - t2) * (-s2).exp()
        s1, t1 = self.of_a(a, h)
        b = (b - t1) * (-s1).exp()
        return _mix(torch.cat([a, b], dim=1), torch.linalg.inv(self.rotation))


class _Network(nn.Module):
    """From one half of the channels and the embedding h to log-scale and shift of the other half."""

    def __init__(self, inputs: int, outputs: int, config: WaveletConfig) -> None:
        super().__init__()
        hidden = config.hidden
        self.bounds = (config.scale_bound, config.shift_bound)
        self.first = nn.Conv2d(inputs, hidden, 3, padding=1)
        self.of_h = nn.Conv2d(config.context, hidden, 1, bias=False)
        self.second = nn.Conv2d(hidden, hidden, 1)
        self.last = nn.Conv2d(hidden, 2 * outputs, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(torch.as_tensor(self.last.bias))

    def forward(self, a: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        with mixed_precision(a.device, self.training):
            u = functional.silu(self.first(a) + self.of_h(h))
            out = self.last(functional.silu(self.second(u)))
        s, t = out.to(a.dtype).chunk(2, dim=1)
        return soft_clamp(s, self.bounds[0]), soft_clamp(t, self.bounds[1])


def _mix(x: Tensor, matrix: Tensor) -> Tensor:
    """Multiply the channels of x `(B, c, h, w)` by a matrix `(c, c)` from the right."""
    return functional.conv2d(x, matrix.T[:, :, None, None])


def _volume(matrix: Tensor) -> Tensor:
    """Return log abs det of a matrix, near 0 for a rotation."""
    volume: Tensor = torch.linalg.slogdet(matrix)[1]
    return volume
