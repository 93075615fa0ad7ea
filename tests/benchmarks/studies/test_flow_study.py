"""The parts of benchmarks/studies/flow_study.py that its answer rests on: masks, the toy problem, the rival's likelihood."""

import importlib
import math
from pathlib import Path

import pytest
import torch

from invkit.flow.cinn import CINN
from invkit.flow.config import CinnConfig
from invkit.flow.table import CodeTable

STUDIES = Path(__file__).parents[3] / "benchmarks" / "studies"


@pytest.fixture
def rows(monkeypatch):
    monkeypatch.syspath_prepend(str(STUDIES))
    return importlib.import_module("flow_rows")


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(str(STUDIES))
    return importlib.import_module("flow_study")


def flow(d=16, **changes):
    return CINN(CinnConfig(d=d, hidden=8, context=4, affine=False, **changes), (1,))


def table(d):
    random = torch.Generator().manual_seed(0)
    return CodeTable(
        3 + 2 * torch.randn(64, d, generator=random),
        torch.full((64, d), -9.0),
        torch.randn(64, 2, generator=random),
    )


def test_half_splits_without_mixing_never_part_a_pair_of_one_half(rows):
    expected = 2 * 8 * 8 / (16 * 15)
    assert rows.together(rows.masks(rows.unmixed(flow()))) == pytest.approx(expected)
    assert rows.together(rows.masks(rows.unmixed(flow(), reverse=True))) == pytest.approx(expected)
    alternating = rows.real_nvp(16, 2, 8, randmask=False)
    assert rows.together(rows.masks(alternating)) == pytest.approx(expected)
    assert rows.together([]) == 0


def test_permutations_and_random_masks_part_nearly_all_pairs(rows):
    assert rows.together(rows.masks(flow(d=64))) == pytest.approx(1 - 2.0**-4, abs=0.03)
    assert rows.together(rows.masks(rows.real_nvp(64, 2, 8, randmask=True))) == pytest.approx(1, abs=0.02)


def test_masks_are_what_enters_the_first_half_of_each_coupling(rows):
    ours = flow()
    where = torch.arange(16.0)[None]
    for block, mask in zip(ours.blocks, rows.masks(ours), strict=True):
        assert set(where[0, :8].tolist()) == set(mask.nonzero()[:, 0].tolist())
        where = block.mixing(where, torch.zeros(1, 4))[0]


def test_the_two_gaussians_differ_only_in_where_pairs_are_correlated(study):
    within, across = (study.linear_gaussian(flag) for flag in (True, False))
    half = study.HALF
    assert torch.linalg.eigvalsh(within).numpy() == pytest.approx(torch.linalg.eigvalsh(across).numpy())
    assert torch.linalg.eigvalsh(within).min() > 0.09
    assert not within[:half, half:].any()
    assert torch.equal(across[:half, :half], torch.eye(half, dtype=torch.float64))
    assert across[:half, half:].abs().max() > 0.3


@pytest.mark.parametrize("after", [False, True])
def test_the_likelihood_of_a_rival_integrates_to_one(rows, after):
    codes = table(2)
    config = CinnConfig(d=2, blocks=0, context=4)
    start = CINN(config, (2,)) if after else None
    if start is not None:
        start.initialise(codes)
    rival = rows.Rival(rows.real_nvp(2, 2, 8, randmask=True), config, codes, start=start)
    axis = torch.linspace(-17, 23, 801)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        nll = rival.nll(grid, codes.condition[:1].expand(len(grid), -1))
    assert float((-2 * nll.double()).exp().sum()) * 0.05**2 == pytest.approx(1, abs=1e-3)


def test_a_flow_without_mixing_still_inverts(rows):
    ours = rows.unmixed(flow(), reverse=True)
    v, h = torch.randn(3, 16), torch.zeros(3, 4)
    torch.testing.assert_close(ours(ours.inverse(v, h), h)[0], v)
    assert torch.equal(ours.blocks[0].mixing(v, h)[0], v.flip(1))


def test_dependence_is_the_mutual_information_of_two_numbers(study):
    covariance = torch.tensor([[4.0, 2 * 3 * 0.6], [2 * 3 * 0.6, 9.0]], dtype=torch.float64)
    assert study.dependence(covariance) == pytest.approx(-0.25 * math.log(1 - 0.6**2))
    within, across = (study.linear_gaussian(flag) for flag in (True, False))
    assert study.dependence(within) == pytest.approx(study.dependence(across))
    assert study.dependence(within) == pytest.approx(-0.25 * math.log(1 - 0.9**2))
