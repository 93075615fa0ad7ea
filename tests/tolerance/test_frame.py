"""Frames against how far padding is known to reach."""

import pytest
import torch
from torch import nn

from invkit.split.split import Split
from invkit.tolerance.frame import frame_of
from invkit.tolerance.unit import Unit
from invkit.tolerance.windows import Windows


def frame(network, layer, side=80):
    split = Split(network, layer)
    x = 100 + 20 * torch.randn(1, 1, side, side, generator=torch.Generator().manual_seed(0))
    z = split.phi(x)
    windows = Windows((8,), Unit((z.std().expand_as(z).clone(),), (0.0,), 0.0))
    return frame_of(split, x, split.denoiser(x), windows, 0.05, 1.0)


def network(*kernels, padding=True):
    layers = [nn.Conv2d(1, 1, kernel, padding=kernel // 2 if padding else 0) for kernel in kernels]
    with torch.no_grad():
        for layer in layers:
            layer.weight.copy_(torch.full_like(layer.weight, 1.0 / layer.weight.numel()))
            layer.bias.zero_()
    return nn.Sequential(*layers)


@pytest.mark.parametrize(("layer", "depth"), [("0", 3), ("1", 3)])
def test_zero_padding_reaches_as_far_as_the_kernels_do(layer, depth):
    """The output's frame counts for every layer: figures of f stand beside those of z."""
    found = frame(network(3, 5), layer)
    assert found.pixels == depth
    assert found.interior == (slice(depth, 80 - depth), slice(depth, 80 - depth))
    assert found.enough


def test_no_padding_has_no_frame():
    class Cropped(nn.Module):
        """Sees the image alone: what its convolutions cut off is put back from the image."""

        def __init__(self):
            super().__init__()
            self.inner = nn.Conv2d(1, 1, 1)

        def forward(self, x):
            return self.inner(x)

    assert frame(Cropped(), "inner").pixels == 0


@pytest.mark.parametrize("norm", [nn.InstanceNorm2d(1), nn.GroupNorm(1, 1)])
def test_a_norm_over_the_image_has_no_bound(norm):
    found = frame(nn.Sequential(norm, nn.Conv2d(1, 1, 1)), "0")
    assert found.pixels is None
    assert found.interior == (slice(0, 80), slice(0, 80))


def test_a_small_interior_says_what_is_needed():
    found = frame(network(15), "0", side=40)
    assert found.pixels == 7
    assert not found.enough
    assert found.needed == 46
