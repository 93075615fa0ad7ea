"""Conjugate gradients against a direct solution in float64."""

import pytest
import torch

from invkit.noise.solve import solve


def systems(count, size, condition, seed=0):
    """Return SPD matrices `(count, size, size)` of a condition number, float64, and right-hand sides."""
    generator = torch.Generator().manual_seed(seed)
    basis, _ = torch.linalg.qr(torch.randn(count, size, size, generator=generator, dtype=torch.float64))
    values = torch.logspace(0, torch.log10(torch.tensor(float(condition))), size, dtype=torch.float64)
    matrices = basis @ torch.diag(values) @ basis.mT
    return matrices, torch.randn(count, size, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("condition", [10, 1e4])
def test_several_systems_are_solved_at_once(condition):
    matrices, b = systems(3, 30, condition)
    found = solve(lambda x: torch.einsum("nij,nj->ni", matrices, x), b, within=1e-10)
    expected = torch.linalg.solve(matrices, b)
    assert torch.allclose(found.x, expected, rtol=1e-6, atol=1e-8)
    assert (found.residual <= 1e-10).all()


def test_a_preconditioner_saves_products_and_changes_nothing():
    matrices, b = systems(1, 40, 1e6)
    inverse = torch.linalg.inv(matrices + 1e-3 * torch.eye(40, dtype=torch.float64))

    def apply(x):
        return torch.einsum("nij,nj->ni", matrices, x)

    plain = solve(apply, b, within=1e-8)
    helped = solve(apply, b, within=1e-8, preconditioner=lambda x: torch.einsum("nij,nj->ni", inverse, x))
    assert helped.products < plain.products / 5
    assert torch.allclose(helped.x, torch.linalg.solve(matrices, b), rtol=1e-4, atol=1e-8)


def test_a_start_is_gone_on_from():
    matrices, b = systems(2, 20, 100)
    expected = torch.linalg.solve(matrices, b)
    found = solve(lambda x: torch.einsum("nij,nj->ni", matrices, x), b, within=1e-6, start=expected)
    assert found.products == 1
    assert torch.equal(found.x, expected)


def test_what_is_not_solved_says_so():
    matrices, b = systems(1, 40, 1e6)
    found = solve(lambda x: torch.einsum("nij,nj->ni", matrices, x), b, within=1e-10, at_most=5)
    assert found.products == 5
    assert found.residual > 1e-3


def test_zero_is_solved_by_zero():
    found = solve(lambda x: 2 * x, torch.zeros(2, 5), within=1e-3)
    assert found.products == 0
    assert not found.x.any()
