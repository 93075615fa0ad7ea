"""Distances over windows against loops, and receptive fields against their sums."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from invkit.split.split import Split
from invkit.tolerance.unit import Unit
from invkit.tolerance.windows import Windows, receptive_field, starts


def unit(*shapes):
    return Unit(tuple(torch.full((1, *shape), 2.0) for shape in shapes), (0.0,) * len(shapes), 0.0)


def test_the_distance_is_the_largest_over_windows():
    difference = torch.randn(3, 4, 21, 30, generator=torch.Generator().manual_seed(0))
    windows = Windows((8,), unit((4, 21, 30)))
    found = windows.distance(difference, torch.zeros(1, 4, 21, 30))
    expected = torch.zeros(3, dtype=torch.float64)
    for row in (0, 4, 8, 12, 13):
        for column in (0, 4, 8, 12, 16, 20, 22):
            part = difference[:, :, row : row + 8, column : column + 8].double() / 2
            expected = torch.maximum(expected, part.square().flatten(1).mean(1).sqrt())
    assert torch.allclose(found, expected)


@pytest.mark.parametrize("length", [8, 9, 16, 21, 128])
def test_windows_cover_all(length):
    begin = starts(length, 8)
    covered = {place for first in begin for place in range(first, first + 8)}
    assert covered == set(range(length))
    assert all(second - first <= 4 for first, second in pairwise(begin))


def test_z_without_a_grid_is_one_window_and_the_worst_of_several_tensors_counts():
    windows = Windows((None, 8), unit((10,), (1, 16, 16)))
    a = (torch.full((1, 10), 6.0), torch.full((1, 1, 16, 16), 2.0))
    zero = (torch.zeros(1, 10), torch.zeros(1, 1, 16, 16))
    assert windows.distance(a, zero).tolist() == [3.0]
    assert windows.elements() == 10


def test_one_place_is_not_diluted_by_the_size_of_the_image():
    found = []
    for side in (32, 128, 256):
        difference = torch.zeros(1, 2, side, side)
        difference[..., 16:20, 16:20] = 1.0
        found.append(float(Windows((8,), unit((2, side, side))).distance(difference, 0 * difference)))
    assert found[0] == found[1] == found[2] == 0.25


def test_values_of_windows_are_spread_over_what_they_cover():
    numbers = torch.Generator().manual_seed(0)
    windows = Windows((8, None), unit((3, 21, 30), (10,)))
    scaled = (torch.randn(2, 3, 21, 30, generator=numbers), torch.randn(2, 10, generator=numbers))
    squares = [windows.of_windows(*pair).square() for pair in zip(scaled, windows.sides, strict=True)]
    values = tuple(torch.rand(square.shape, generator=numbers, dtype=torch.float64) for square in squares)
    expected = sum((value * square).flatten(1).sum(1) for value, square in zip(values, squares, strict=True))
    weights = windows.spread(values)
    found = sum(
        (part.square() * weight).flatten(1).sum(1) for part, weight in zip(scaled, weights, strict=True)
    )
    assert torch.allclose(found, expected)


def convolutions(*kernels, stride=1):
    layers = [nn.Conv2d(1, 1, kernel, padding=kernel // 2, stride=stride) for kernel in kernels]
    with torch.no_grad():
        for layer in layers:
            layer.weight.fill_(1.0)
    return nn.Sequential(*layers)


@pytest.mark.parametrize(("kernels", "expected"), [((3,), 3), ((3, 3, 3), 7), ((5, 3), 7), ((1,), 1)])
def test_the_receptive_field_is_that_of_the_kernels(kernels, expected):
    network = convolutions(*kernels)
    split = Split(network, str(len(kernels) - 1))
    assert receptive_field(split, torch.rand(1, 1, 33, 33)) == expected


def test_the_side_of_a_window_is_in_positions():
    network = nn.Sequential(nn.Conv2d(1, 1, 31, padding=15, stride=2), nn.Upsample(scale_factor=2))
    with torch.no_grad():
        network[0].weight.fill_(1.0)
    split, x = Split(network, "0"), torch.rand(1, 1, 96, 96)
    assert receptive_field(split, x) == 31
    assert Windows.of(split, x, unit((1, 48, 48))).sides == (16,)


def test_what_sees_much_has_windows_of_at_most_64_pixels():
    split, x = Split(convolutions(81), "0"), torch.rand(1, 1, 100, 100)
    assert receptive_field(split, x) == 81
    assert Windows.of(split, x, unit((1, 100, 100))).sides == (64,)
