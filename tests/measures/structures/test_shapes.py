"""Shapes of structures: what they sum to, how large they are, and the part of their contrast that a change has."""

import math

import pytest
import torch

from invkit.measures.structures.shapes import DISCS, SHAPES, Shape
from invkit.noise.covariance import NoiseCovariance

SIZE = (48, 56)
CENTRES = torch.tensor([[20, 30], [24, 20], [23, 25], [30, 31]])
PATTERNS = [shape for shape in SHAPES if shape not in DISCS]


def named(shape):
    return f"{shape.kind}-{shape.size:g}"


@pytest.mark.parametrize("shape", SHAPES, ids=named)
def test_a_shape_lies_within_its_radius(shape):
    found = shape.at(CENTRES, SIZE)
    assert found.shape == (4, 1, *SIZE)
    rows, columns = torch.meshgrid(*(torch.arange(length) for length in SIZE), indexing="ij")
    for one, (row, column) in zip(found[:, 0], CENTRES, strict=True):
        away = ((rows - row).square() + (columns - column).square()).sqrt()
        assert float(one[away > shape.radius + 0.75].abs().max()) < 1e-30
        assert float(one[away < shape.radius / 2].abs().max()) > 0.3
        assert float(one.abs().max()) <= 1.05


@pytest.mark.parametrize("shape", PATTERNS, ids=named)
def test_patterns_have_no_mean(shape):
    found = shape.at(CENTRES, SIZE)
    assert float(found.sum((1, 2, 3)).abs().max()) < 1e-3 * float(found.abs().sum((1, 2, 3)).min())


def test_a_disc_is_its_area():
    for shape in DISCS:
        sums = shape.at(CENTRES, SIZE).sum((1, 2, 3))
        torch.testing.assert_close(sums, torch.full_like(sums, math.pi * shape.radius**2), rtol=1e-3, atol=0)


def test_an_edge_is_a_step_that_falls_to_half_within_its_length():
    (edge,) = Shape("edge", 16.0).at(torch.tensor([[24, 28]]), SIZE)[:, 0]
    across = edge[:, 28]
    assert float(across[25] - across[23]) == pytest.approx(1, abs=0.03)
    along = edge[25]
    assert float(along[28 + 8] / along[28]) == pytest.approx(0.5, abs=0.02)
    torch.testing.assert_close(edge, -edge.flip(0).roll(1, 0), atol=1e-12, rtol=0)


def test_lines_alternate_at_their_width():
    width = 4
    lines = Shape("line_pair", float(width)).at(torch.tensor([[24, 28]]), SIZE)[0, 0]
    middle = lines[:, 28]
    assert middle[24 - 2 * width + 1 : 24 - width].tolist() == [-0.5] * 3
    assert middle[24 - width + 1 : 24].tolist() == [0.5] * 3
    assert middle[24 + 1 : 24 + width].tolist() == [-0.5] * 3
    assert middle[24 + width + 1 : 24 + 2 * width].tolist() == [0.5] * 3


def test_edges_and_lines_turn_from_place_to_place():
    same = torch.tensor([[24, 24]] * 4)
    for kind in ("edge", "line_pair"):
        first, second, third, fourth = Shape(kind, 4.0).at(same, (49, 49))[:, 0]
        # The fine grid of a pixel's parts is no grid along the diagonal.
        torch.testing.assert_close(third, first.T, atol=0.02, rtol=0)
        torch.testing.assert_close(fourth.abs(), second.flip(0).abs(), atol=0.02, rtol=0)
        assert float((first - second).abs().max()) > 0.3


def test_a_texture_has_the_grain_and_the_deviation_that_it_is_said_to_have():
    shape = Shape("texture", 4.0)
    side, reach = 17, 8
    many = shape.at(torch.tensor([[reach, reach]] * 1000), (side, side))
    found = many.flatten(1).T @ many.flatten(1) / len(many)
    # Of white noise through a lump, in the window and without its mean.
    rows, columns = (
        part.flatten() for part in torch.meshgrid(*[torch.arange(side).double()] * 2, indexing="ij")
    )
    apart = (rows[:, None] - rows).square() + (columns[:, None] - columns).square()
    lump = shape.size / (2 * math.sqrt(2 * math.log(2)))
    away = ((rows - reach).square() + (columns - reach).square()).sqrt().clamp(max=shape.radius)
    window = torch.cos(math.pi * away / (2 * shape.radius)).square()
    centred = torch.eye(side**2, dtype=torch.float64) - window / window.sum()
    expected = window[:, None] * (centred @ torch.exp(-apart / (4 * lump**2)) @ centred.T) * window
    expected *= window.square().sum() / 4 / expected.trace()
    assert float((found - expected).norm() / expected.norm()) < 0.15
    torch.testing.assert_close(
        many.square().sum((1, 2, 3)) / window.square().sum(),
        torch.full((1000,), 0.25).double(),
        rtol=0.01,
        atol=0,
    )
    assert torch.equal(*(shape.at(CENTRES, SIZE) for _ in range(2)))
    assert float((many[0] - many[1]).abs().max()) > 0.3


@pytest.mark.parametrize("shape", SHAPES, ids=named)
def test_what_keeps_a_part_of_everything_keeps_that_part_of_contrast(shape):
    shapes = shape.at(CENTRES, SIZE)
    d = 10 * NoiseCovariance(torch.full(SIZE, 20.0, dtype=torch.float64)).blurred(shapes)
    kept = shape.kept(0.3 * d, d, shapes)
    torch.testing.assert_close(kept, torch.full_like(kept, 0.3))


def test_contrast_kept_of_a_pattern_is_its_projection():
    shape = Shape("line_pair", 2.0)
    d = shape.at(CENTRES, SIZE)
    other = torch.randn(d.shape, generator=torch.Generator().manual_seed(0), dtype=d.dtype)
    expected = (other * d).sum((1, 2, 3)) / (d * d).sum((1, 2, 3))
    torch.testing.assert_close(shape.kept(other, d, d), expected)


def test_contrast_kept_of_a_disc_is_its_mean():
    shape = Shape("disc", 3.0)
    shapes = shape.at(CENTRES, SIZE)
    change = shapes.roll(1, -1)
    inside = shapes > 0.5
    expected = [(change[k][inside[k]].mean() / shapes[k][inside[k]].mean()) for k in range(4)]
    torch.testing.assert_close(shape.kept(change, shapes, shapes), torch.stack(expected))
