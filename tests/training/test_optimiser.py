import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from invkit.training.optimiser import adam, cosine, doubling_cosine


def test_adam_follows_its_definition():
    weight = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = adam([weight], lr=0.1, betas=(0.8, 0.9))
    value, first, second = weight.detach().clone(), torch.zeros(2).double(), torch.zeros(2).double()
    for step in range(1, 6):
        optimizer.zero_grad()
        (weight**3).sum().backward()
        gradient = 3 * value**2
        first, second = 0.8 * first + 0.2 * gradient, 0.9 * second + 0.1 * gradient**2
        value = value - 0.1 * (first / (1 - 0.8**step)) / ((second / (1 - 0.9**step)).sqrt() + 1e-8)
        optimizer.step()
        assert torch.allclose(weight.detach(), value, atol=1e-12)


def test_adam_is_fused_on_cpu_and_leaves_out_frozen_parameters():
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    optimizer = adam(model.parameters(), lr=0.1)
    assert optimizer.defaults["fused"]
    assert [group["params"] for group in optimizer.param_groups] == [[model.weight]]


def test_cosine_rises_falls_and_ends():
    rates = [cosine(2.0, step, 101, warmup=10, end=0.1) for step in range(101)]
    assert rates[:11] == pytest.approx([2.0 * (step + 1) / 11 for step in range(11)])
    assert rates[10] == max(rates) == 2.0
    assert rates[55] == pytest.approx(2.0 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 2))))
    assert rates[100] == pytest.approx(0.2)
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[10:]))


@pytest.mark.parametrize("steps", [1, 2, 3, 40, 41])
def test_each_half_of_a_restarted_cosine_is_a_whole_one(steps):
    schedule = SimpleNamespace(lr=2.0, steps=steps, warmup=4)
    rates = [doubling_cosine(schedule, step) for step in range(steps)]
    first, second = steps // 2, steps - steps // 2
    assert rates[:first] == [cosine(2.0, step, first, warmup=min(4, first // 4)) for step in range(first)]
    assert rates[first:] == [cosine(2.0, step, second, warmup=min(4, second // 4)) for step in range(second)]
    for done in (steps, 2 * steps):
        more = [doubling_cosine(schedule, done + step) for step in range(done)]
        assert more == [cosine(2.0, step, done, warmup=min(4, done // 4)) for step in range(done)]


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_cosine_of_very_short_trainings(steps):
    assert cosine(1.0, 0, steps) == 1.0
    assert 0 <= cosine(1.0, steps - 1, steps, warmup=steps) <= 1.0
    assert cosine(1.0, steps + 5, steps) == pytest.approx(0.0)
