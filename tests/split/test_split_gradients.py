"""Gradients through Phi and Psi against those of the same layers called directly."""

import pytest
import torch
from split_networks import YangLike, exact, hook_count, images, seeded
from torch import nn
from torch.utils.checkpoint import checkpoint

from invkit.errors import SplitError
from invkit.split.split import Split


class Checkpointed(nn.Module):
    def __init__(self, use_reentrant):
        super().__init__()
        self.first, self.inner, self.last = (nn.Conv2d(1, 1, 3, padding=1) for _ in range(3))
        self.options = {"use_reentrant": use_reentrant}

    def forward(self, x):
        def block(x):
            return torch.tanh(self.inner(torch.tanh(x)))

        return self.last(checkpoint(block, self.first(x), **self.options))


def test_a_layer_inside_a_checkpoint():
    network = seeded(lambda: Checkpointed(False))
    x = images() / 100
    split, _ = exact(network, "inner", x)
    image = x.clone().requires_grad_()
    expected = torch.autograd.grad(network.inner(torch.tanh(network.first(image))).square().sum(), image)[0]
    assert torch.allclose(torch.autograd.grad(split.phi_grad(image).square().sum(), image)[0], expected)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_a_checkpoint_that_hides_the_gradient_says_so():
    network = seeded(lambda: Checkpointed(True))
    split, _ = exact(network, "inner")
    with pytest.raises(SplitError, match="use_reentrant"):
        split.phi_grad(images().requires_grad_())
    assert hook_count(network) == 0


def test_gradient_of_phi_and_psi():
    network = seeded(YangLike)
    split = Split(network, "convs.2")
    x = images().requires_grad_()

    def direct(image):
        return network.convs[2](torch.relu(network.convs[1](torch.relu(network.convs[0](image)))))

    (found,) = torch.autograd.grad(split.phi_grad(x).pow(2).sum(), x)
    (expected,) = torch.autograd.grad(direct(x).pow(2).sum(), x)
    assert torch.allclose(found, expected)
    assert not split.phi(x).requires_grad
    with torch.no_grad():
        assert split.phi_grad(x).requires_grad
    z = split.phi(x).requires_grad_()
    (found,) = torch.autograd.grad(split.psi(z, images()).pow(2).sum(), z)
    h = z
    for conv in network.convs[3:]:
        h = conv(torch.relu(h))
    assert torch.allclose(found, torch.autograd.grad(h.pow(2).sum(), z)[0])
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


def test_torch_func_transforms():
    network = seeded(lambda: nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Tanh(), nn.Conv2d(3, 1, 1)))
    split, x = Split(network, "1"), images(1, 5, 5)
    direction = images(1, 5, 5, seed=1)
    _, pushed = torch.func.jvp(split.phi_grad, (x,), (direction,))
    z, pull = torch.func.vjp(split.phi_grad, x)
    assert torch.equal(z, split.phi(x))
    assert torch.allclose((pushed * z).sum(), (pull(z)[0] * direction).sum(), rtol=1e-4)


def test_inference_mode():
    split, x = Split(seeded(YangLike), "convs.3"), images()
    expected = split.phi(x)
    with torch.inference_mode():
        assert torch.equal(split.phi(x), expected)
        split.check(x)
