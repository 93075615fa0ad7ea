"""What a code cannot hold, put back as noise: draws completed to the spectrum of the image they are of."""

__all__ = ["complete", "spectral_noise"]

from collections.abc import Sequence

import torch
from torch import Tensor

from invkit.training.feed import to_device
from invkit.training.seeds import generator

BANDS = 32  # from 0 to the corner of the frequency plane, sqrt(1/2) cycles per pixel


def complete(images: Tensor, residual: Tensor, *, seed: int, image: int, indices: Sequence[int]) -> Tensor:
    """Return draws plus Gaussian noise with the radial power spectrum of `residual`.

    A flat code holds little above a tenth of a cycle per pixel, so neither do its samples, and nothing that the layer ignores up
    there could be found from them. The noise is fresh for every draw: what two draws share is the code's alone.

    Args:
        images: draws, `(N, 1, H, W)`, HU.
        residual: what the code loses of the image under test, x - D(E(x)), `(1, 1, H, W)`, HU.
        seed: of the analysis.
        image: index of the image under test.
        indices: index of each draw; its noise depends on it alone.
    """
    noise = spectral_noise(residual, stream="completion", seed=seed, image=image, indices=indices)
    return images + noise.to(images)


def spectral_noise(residual: Tensor, *, stream: str, seed: int, image: int, indices: Sequence[int]) -> Tensor:
    """Return Gaussian noise with the radial power spectrum of `residual`, one per draw, `(n, 1, H, W)`, HU.

    Args:
        residual: an image of the noise's strength and texture, `(1, 1, H, W)`, HU.
        stream: name of what the noise is for; two streams of one seed are independent.
        seed: of the analysis.
        image: index of the image under test.
        indices: index of each draw; its noise depends on it alone.
    """
    height, width = residual.shape[-2:]
    device = residual.device
    power = torch.fft.fft2(residual[0, 0]).abs().square() / (height * width)
    rows, columns = (torch.fft.fftfreq(length, device=device) for length in (height, width))
    radius = (rows[:, None].square() + columns[None].square()).sqrt()
    band = (radius / 0.5**0.5 * BANDS).long().clamp(max=BANDS - 1)
    sums, counts = (torch.zeros(BANDS, dtype=power.dtype, device=power.device) for _ in range(2))
    sums.index_add_(0, band.flatten(), power.flatten())
    counts.index_add_(0, band.flatten(), torch.ones_like(power).flatten())
    gain = (sums / counts.clamp(min=1))[band].sqrt()
    white = [torch.randn(1, height, width, generator=generator(seed, stream, image, k)) for k in indices]
    noise: Tensor = torch.fft.ifft2(
        torch.fft.fft2(to_device(torch.stack(white), device).to(residual.dtype)) * gain
    ).real
    return noise
