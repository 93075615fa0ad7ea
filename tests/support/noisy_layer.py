"""A layer of a small network at an image of noise, with all that is measured of it, and a network that sees edges alone."""

import torch
from torch import nn

from invkit.fiber.tangent import Tangent
from invkit.noise.covariance import NoiseCovariance
from invkit.split.split import Split
from invkit.tolerance.layer import TolerancedLayer


class Edges(nn.Module):
    """Sees frequencies above 0.08 cycles per pixel alone."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Identity(), nn.Identity()

    def forward(self, x):
        vertical = torch.fft.fftfreq(x.shape[-2])[:, None]
        horizontal = torch.fft.rfftfreq(x.shape[-1])[None, :]
        high = (vertical.square() + horizontal.square() > 0.08**2).to(x)
        edges = torch.fft.irfft2(torch.fft.rfft2(x) * high, s=x.shape[-2:])
        return self.outer(self.inner(edges))


def at_noise(network, name, side, structure=0.0):
    """Return a layer at 40 HU with noise of 20 HU and a structure."""
    covariance = NoiseCovariance(torch.full((side, side), 20.0))
    x = 40 + structure + covariance.draws(1, torch.Generator().manual_seed(0))
    split = Split(network, name)
    return TolerancedLayer.of(
        split, x, split.denoiser(x), covariance, seed=0, tangent=Tangent(split.phi_grad)
    )
