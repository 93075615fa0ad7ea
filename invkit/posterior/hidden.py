"""How much noise hides from a layer: the spread of the posterior about x."""

__all__ = ["HIGH", "hidden_noise", "high_share"]

from collections.abc import Sequence

import torch
from torch import Tensor

from invkit.statistics.intervals import Interval, bootstrap
from invkit.training.precision import in_float64

HIGH = 0.25  # cycles per pixel, half of what pixels can hold


def hidden_noise(squares: Sequence[Tensor], seed: int) -> Interval:
    """Return the root mean square over draws and pixels, HU, with an interval over draws.

    Args:
        squares: of each image, squared differences from x, `(n, 1, h, w)`, HU^2.
        seed: of the bootstrap.
    """
    means = torch.cat([in_float64(part.flatten(1)).mean(1) for part in squares]).cpu()
    return bootstrap(means, seed=seed).root()


def high_share(images: Sequence[Tensor]) -> float:
    """Return the share of the power above a quarter cycle per pixel, Hann-windowed.

    Args:
        images: of each image under test, differences from x, `(n, 1, h, w)`, HU.
    """
    above = total = 0.0
    for part in images:
        height, width = part.shape[-2:]
        window = torch.hann_window(height, periodic=False)[:, None] * torch.hann_window(width, periodic=False)
        power = torch.fft.fft2(part.cpu() * window).abs().square().double().sum((0, 1))
        radius = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)[None, :])
        above, total = above + float(power[radius > HIGH].sum()), total + float(power.sum())
    return above / total if total > 0 else 0.0
