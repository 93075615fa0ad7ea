"""Small networks of every shape, and images in HU."""

import torch
from torch import nn

from invkit.denoisers.loaded import LoadedDenoiser
from invkit.split.split import Split


class ChenLike(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=2),
            nn.ReLU(),
            nn.Conv2d(6, 4, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(4, 1, 3, padding=1),
        )

    def forward(self, x):
        return self.net(x)


class YangLike(nn.Module):
    """ReLUs in place, as many published networks have them."""

    def __init__(self, depth: int = 8):
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(1 if i == 0 else 4, 1 if i == depth - 1 else 4, 3, padding=1) for i in range(depth)
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        for conv in self.convs[:-1]:
            x = self.relu(conv(x))
        return self.convs[-1](x)


class RedLike(nn.Module):
    """An encoder without padding, a decoder, and two skip connections that are added."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)
        self.up1, self.up2 = nn.ConvTranspose2d(4, 4, 3), nn.ConvTranspose2d(4, 1, 3)

    def forward(self, x):
        first = torch.relu(self.conv1(x))
        second = torch.relu(self.conv2(first))
        return torch.relu(self.up2(torch.relu(self.up1(second) + first)) + x)


class UnetLike(nn.Module):
    """Two strides of two with concatenated skip connections; sizes must be multiples of four."""

    def __init__(self):
        super().__init__()
        self.enc1 = nn.Conv2d(1, 3, 3, padding=1)
        self.enc2 = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.bottom = nn.Conv2d(4, 5, 3, stride=2, padding=1)
        self.up1 = nn.ConvTranspose2d(5, 4, 2, stride=2)
        self.up2 = nn.ConvTranspose2d(8, 3, 2, stride=2)
        self.last = nn.Conv2d(6, 1, 1)

    def forward(self, x):
        one = torch.relu(self.enc1(x))
        two = torch.relu(self.enc2(one))
        three = torch.relu(self.bottom(two))
        x = torch.cat([torch.relu(self.up1(three)), two], 1)
        return self.last(torch.cat([torch.relu(self.up2(x)), one], 1))


class SharedRed(nn.Module):
    """A RED-CNN whose inner convolutions share weights: each of two modules runs four times, and three additions have none."""

    def __init__(self, width: int = 4):
        super().__init__()
        self.first, self.conv = nn.Conv2d(1, width, 3), nn.Conv2d(width, width, 3)
        self.up, self.last = nn.ConvTranspose2d(width, width, 3), nn.ConvTranspose2d(width, 1, 3)

    def forward(self, x):
        one = torch.relu(self.conv(torch.relu(self.first(x))))
        two = torch.relu(self.conv(torch.relu(self.conv(one))))
        z = self.up(torch.relu(self.conv(two))) + two
        z = self.up(torch.relu(self.up(torch.relu(z)))) + one
        z = self.last(torch.relu(self.up(torch.relu(z)))) + x
        return torch.relu(z)


class DnCnn(nn.Module):
    """f(x) = x - n(x): nothing inside of n is a cut, because x goes round all of it."""

    def __init__(self, depth: int = 5, width: int = 4):
        super().__init__()
        parts = [nn.Conv2d(1, width, 3, padding=1), nn.ReLU(inplace=True)]
        for _ in range(depth - 2):
            parts += [
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
        self.n = nn.Sequential(*parts, nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, x):
        return x - self.n(x)


class Parts(nn.Module):
    """Returns its two convolutions as whatever `pack` makes of them."""

    def __init__(self, pack):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(1, 3, 3, padding=1)
        self.pack = pack

    def forward(self, x):
        return self.pack(self.a(x), self.b(x))


class Branching(nn.Module):
    """A module with a structured output between two plain ones."""

    def __init__(self, pack, unpack):
        super().__init__()
        self.parts, self.unpack, self.last = Parts(pack), unpack, nn.Conv2d(5, 1, 3, padding=1)

    def forward(self, x):
        return self.last(torch.relu(torch.cat(self.unpack(self.parts(x)), 1)))


def seeded(make, seed: int = 5):
    """Return `make()` with weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def hook_count(network) -> int:
    module = network.network if isinstance(network, LoadedDenoiser) else network
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


def images(n: int = 2, height: int = 16, width: int = 20, seed: int = 3) -> torch.Tensor:
    return 100 * torch.randn(n, 1, height, width, generator=torch.Generator().manual_seed(seed))


def exact(network, layer, x=None, **options):
    """Check a split fully and return its report; hooks must be gone."""
    x = images() if x is None else x
    before = hook_count(network)
    split = Split(network, layer, **options)
    report = split.check(x)
    assert report.exact
    assert torch.equal(split.psi(split.phi(x), x), split.denoiser(x))
    assert hook_count(network) == before
    z, f_x = split.phi_and_f(x)
    alone = split.phi(x)
    pairs = zip(z, alone, strict=True) if isinstance(z, tuple) else [(z, alone)]
    assert all(torch.equal(one, other) for one, other in pairs)
    assert torch.equal(f_x, split.denoiser(x))
    return split, report
