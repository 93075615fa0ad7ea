"""A layer that is linear, with all that belongs to it as matrices: the posterior is then known in closed form."""

import torch
from torch import nn

from invkit.fiber.tangent import Tangent
from invkit.noise.covariance import NoiseCovariance
from invkit.split.split import Split
from invkit.tolerance.frame import Frame
from invkit.tolerance.layer import Crops, TolerancedLayer
from invkit.tolerance.marks import Marks
from invkit.tolerance.unit import Unit
from invkit.tolerance.windows import Windows

SIZE = 12


def linear_network(seed=0, channels=3):
    """Return two convolutions without anything between; the first one, with `stride` 2, loses information."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1, stride=2),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(channels, 1, 3, padding=1),
        )
    return network.double()


class LinearLayer:
    """The first layer of such a network at an image of noise, and the matrices J, C and S."""

    def __init__(self, seed=0, channels=3, size=SIZE, side=None):
        self.network = linear_network(seed, channels)
        self.split = Split(self.network, "0")
        generator = torch.Generator().manual_seed(seed)
        self.x = 30 * torch.randn(1, 1, size, size, generator=generator, dtype=torch.float64)
        rows = torch.linspace(15, 30, size, dtype=torch.float64)
        self.covariance = NoiseCovariance(rows[:, None].expand(size, size).contiguous())
        z = self.split.phi(self.x)
        s = 1 + torch.rand(z.shape, generator=generator, dtype=torch.float64)
        self.unit = Unit((s,), (0.0,), 0.0)
        self.windows = Windows((side,), self.unit)
        self.tangent = Tangent(self.split.phi_grad)
        unit = torch.eye(size * size, dtype=torch.float64).view(-1, 1, size, size)
        zero = self.split.phi(torch.zeros_like(self.x))
        self.jacobian = (self.split.phi(unit) - zero).flatten(1).T
        self.matrix = self.covariance.apply(unit).flatten(1).T
        self.s = s.flatten()

    def toleranced(self, tolerance, frame=0):
        """Return the layer with a tolerance and a frame."""
        return TolerancedLayer(
            self.split,
            self.x,
            self.split.denoiser(self.x),
            self.covariance,
            self.windows,
            Marks({"given": tolerance}, 1.0, "given"),
            Frame(frame, tuple(self.x.shape[-2:])),
            self.tangent,
        )

    def crops(self, count):
        """Return the image, so many times."""
        return Crops(
            self.x.expand(count, -1, -1, -1),
            torch.zeros(count, 2, dtype=torch.int64),
            torch.zeros(count, 2, dtype=torch.int64),
            self.windows,
            self.covariance,
        )

    def posterior(self, sigma):
        """Return (C^-1 + J^T (sigma S)^-2 J)^-1 as a matrix."""
        weighted = self.jacobian / (sigma * self.s)[:, None]
        return torch.linalg.inv(torch.linalg.inv(self.matrix) + weighted.T @ weighted)
