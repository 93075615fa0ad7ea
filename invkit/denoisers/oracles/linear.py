"""Linear oracles: their fiber is a flat, and for Gaussian images p(x|z) is a Gaussian in closed form."""

__all__ = ["Band", "BlockMean", "LowPass"]

import torch
from torch import Tensor, nn


class Band(nn.Module):
    """Keeps, or takes out, the frequencies with low <= abs(f) <= high; an orthogonal projection.

    Args:
        low: cycles per pixel, radial.
        high: cycles per pixel, radial.
        keep: keep the band and nothing else; otherwise keep all but the band.
    """

    def __init__(self, low: float, high: float, *, keep: bool) -> None:
        super().__init__()
        self.low, self.high, self.keep = low, high, keep

    def forward(self, x: Tensor) -> Tensor:
        """Filter images `(B, 1, H, W)`."""
        height, width = x.shape[-2:]
        rows = torch.fft.fftfreq(height, dtype=torch.float64)[:, None]
        columns = torch.fft.rfftfreq(width, dtype=torch.float64)
        radius = (rows.square() + columns.square()).sqrt()
        inside = (radius >= self.low) & (radius <= self.high)
        mask = (inside == self.keep).to(x)
        kept: Tensor = torch.fft.irfft2(torch.fft.rfft2(x) * mask, s=(height, width))
        return kept


class LowPass(nn.Module):
    """The image without its frequencies above `cutoff`, cycles per pixel."""

    def __init__(self, cutoff: float) -> None:
        super().__init__()
        self.filter = Band(0.0, cutoff, keep=True)
        self.out = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Filter images `(B, 1, H, W)`."""
        out: Tensor = self.out(self.filter(x))
        return out


class BlockMean(nn.Module):
    """The mean of each block of `size` x `size` pixels, put back on all of them."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.mean = nn.AvgPool2d(size)
        self.back = nn.Upsample(scale_factor=size, mode="nearest")

    def forward(self, x: Tensor) -> Tensor:
        """Average images `(B, 1, H, W)`."""
        out: Tensor = self.back(self.mean(x))
        return out
