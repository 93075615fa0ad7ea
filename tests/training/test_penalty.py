import pytest
import torch
from torch import nn

from invkit.training.penalty import gradient_penalty

SIZE = 8


def generator(seed):
    return torch.Generator().manual_seed(seed)


def linear_critic():
    return nn.Sequential(nn.Flatten(), nn.Linear(SIZE * SIZE, 1, bias=False))


@pytest.mark.parametrize("scale", [0.0, 0.3, 1.0, 5.0])
def test_the_penalty_of_a_linear_critic_is_known(scale):
    """|grad| of <w, u> is |w| everywhere, so the penalty is (|w| - 1)^2, and its gradient 2 (|w| - 1) w / |w|."""
    direction = torch.nn.functional.normalize(torch.randn(1, SIZE * SIZE, generator=generator(0)), dim=1)
    critic = linear_critic()
    critic[1].weight.data = scale * direction
    real, fake = (torch.randn(6, 1, SIZE, SIZE, generator=generator(k)) for k in (1, 2))
    penalty = gradient_penalty(critic, real, fake, generator(3))
    assert penalty.item() == pytest.approx((scale - 1) ** 2, rel=1e-5, abs=1e-6)
    penalty.backward()
    found = critic[1].weight.grad
    assert bool(found.isfinite().all())
    if scale:
        torch.testing.assert_close(found, 2 * (scale - 1) * direction, atol=1e-5, rtol=1e-4)


def test_the_penalty_is_taken_between_real_and_fake_for_each_image():
    """For C(u) = |u|^2 / 2 the gradient is u itself, so the points are seen directly."""
    real, fake = torch.zeros(500, 1, 1, 1), torch.full((500, 1, 1, 1), 4.0)
    seen = []

    class Half(nn.Module):
        def forward(self, u):
            seen.append(u.detach())
            return u.flatten(1).square().sum(1) / 2

    penalty = gradient_penalty(Half(), real, fake, generator(4))
    points = seen[0].flatten()
    assert penalty.item() == pytest.approx((points - 1).square().mean().item(), rel=1e-6)
    assert 0 <= points.min() < 0.1
    assert 3.9 < points.max() <= 4
    assert points.mean().item() == pytest.approx(2, abs=0.2)
    real.requires_grad_()
    assert gradient_penalty(Half(), real, fake, generator(4)).item() == pytest.approx(penalty.item())
