"""z is memory of the caller's own: what becomes of it changes no later pass, and no later pass changes it."""

import pytest
import torch
from split_networks import images
from torch import nn
from torch.nn import functional

from invkit.split.split import Split


class Reusing(nn.Module):
    """Writes into the same memory at every pass."""

    def __init__(self):
        super().__init__()
        self.memory = torch.zeros(2, 1, 32, 32)

    def forward(self, x):
        torch.mul(x, 2.0, out=self.memory)
        return self.memory


class ReusingConv(nn.Conv2d):
    """A convolution that does so."""

    memory = None

    def forward(self, x):
        self.memory = super().forward(x) if self.memory is None else self.memory.copy_(super().forward(x))
        return self.memory


def tampered():
    module = nn.Conv2d(1, 1, 1)
    kept = []

    def forward(x):
        made = functional.conv2d(x, module.weight, module.bias)
        if not kept:
            kept.append(made)
        return kept[0].copy_(made)

    module.forward = forward
    return module


def hooked():
    module, memory = nn.Conv2d(1, 1, 1), torch.zeros(2, 1, 32, 32)
    module.register_forward_hook(lambda _, given, output: memory.copy_(output))
    return module


class ByKeyword(Reusing):
    """Hands its memory to an Identity by name, which no hook is shown."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Identity()

    def forward(self, x):
        return self.inner(input=super().forward(x))


LAYERS = {
    "its own memory": Reusing,
    "subclass": lambda: ReusingConv(1, 1, 1),
    "forward replaced": tampered,
    "another hook": hooked,
    "identity": nn.Identity,
    "view": lambda: nn.Flatten(2),
    "in place": lambda: nn.ReLU(inplace=True),
    "dropout": lambda: nn.Dropout(0.5),
    "convolution": lambda: nn.Conv2d(1, 1, 1),
    "container": lambda: nn.Sequential(Reusing()),
}


@pytest.mark.parametrize("way", [pytest.param(way, id=name) for name, way in LAYERS.items()])
@torch.no_grad()
def test_z_shares_memory_with_nothing(way):
    torch.manual_seed(0)
    layer = way()
    network = nn.Sequential(
        layer, nn.Unflatten(2, (32, 32)) if isinstance(layer, nn.Flatten) else nn.Identity()
    )
    split = Split(network.eval(), "0")
    x, other = images(2, 32, 32), images(2, 32, 32, seed=5)
    before = x.clone()
    z = split.phi(x)
    kept = z.clone()
    assert not torch.equal(split.phi(other), kept)
    assert torch.equal(z, kept)
    z.zero_()
    assert torch.equal(x, before)
    assert torch.equal(split.phi(x), kept)


@torch.no_grad()
def test_what_is_passed_by_keyword_is_copied_too():
    split = Split(nn.Sequential(ByKeyword()), "0.inner")
    z = split.phi(images(2, 32, 32))
    kept = z.clone()
    split.phi(images(2, 32, 32, seed=5))
    assert torch.equal(z, kept)


@torch.no_grad()
def test_a_layer_of_torchs_own_is_not_copied():
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Conv2d(2, 1, 1)).eval()
    seen = []
    conv = functional.conv2d

    def watch(*args):
        seen.append(conv(*args))
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(functional, "conv2d", watch)
        z = Split(network, "0").phi(images())
    assert z is seen[0]


def test_a_set_of_layers_is_not_changed_by_what_comes_after_the_first():
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(inplace=True), nn.Conv2d(2, 1, 1))
    x = images()
    first, _ = Split(network, "0+2").phi(x)
    assert torch.equal(first, network[0](x))
