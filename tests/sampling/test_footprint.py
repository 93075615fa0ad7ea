"""The peak of tensors in use is what can be counted by hand."""

import gc

import torch
from torch import nn

from invkit.sampling.footprint import peak_bytes


def test_tensors_are_counted_while_they_are_in_use():
    size = 4 * 1000

    def one_after_the_other():
        for _ in range(5):
            torch.ones(1000)

    def together():
        held = [torch.ones(1000) for _ in range(5)]
        return sum(held[1:], held[0])

    assert size <= peak_bytes(one_after_the_other) <= 2 * size
    assert 6 * size <= peak_bytes(together) <= 7 * size
    assert peak_bytes(lambda: None) == 0


def test_views_and_steps_in_place_take_nothing():
    def compute():
        x = torch.zeros(1000)
        x.view(10, 100)[3:].add_(1)
        return x[::2]

    assert peak_bytes(compute) == 4000


def test_what_a_graph_keeps_for_the_gradient_counts():
    x = torch.randn(1, 1, 16, 16, requires_grad=True)
    layers = [nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Tanh()) for _ in range(2)]
    deep = nn.Sequential(layers[0], nn.Conv2d(8, 1, 1), layers[1])
    image = 16 * 16 * 4
    # tanh keeps its output for the gradient, a convolution its input
    assert peak_bytes(lambda: deep(x)) >= (8 + 1 + 8 + 8) * image
    with torch.no_grad():
        assert (8 + 8) * image <= peak_bytes(lambda: deep(x)) <= (1 + 8 + 8) * image


def test_the_count_does_not_depend_on_when_python_collects():
    def compute():
        for _ in range(4):
            ring = [torch.ones(1000)]
            ring.append(ring)

    thresholds = gc.get_threshold()
    found = []
    try:
        for each in (thresholds, (1, 1, 1), (100_000, 1, 1)):
            gc.set_threshold(*each)
            found.append(peak_bytes(compute))
    finally:
        gc.set_threshold(*thresholds)
    assert found == [4 * 4000] * 3
    assert gc.isenabled()
