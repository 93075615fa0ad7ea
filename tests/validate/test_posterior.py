"""The checks of draws, observers and contrast hold, and fail where what they check is broken."""

import pytest
import torch

from invkit.denoisers.loaded import wrap_module
from invkit.denoisers.oracles.linear import BlockMean
from invkit.denoisers.oracles.planted import WithoutDiscs
from invkit.posterior import draws
from invkit.split.split import Split
from invkit.validate import posterior as module
from invkit.validate.posterior import check_contrast, check_posterior
from invkit.validate.rows import Seeds


def blocks():
    return Split(wrap_module(BlockMean(2)), "mean")


def test_all_rows_hold():
    rows = check_posterior(blocks(), Seeds(0, "posterior")) + check_contrast(Seeds(0, "contrast"))
    assert [row.id for row in rows if not row.holds] == []
    assert len(rows) == 5


def test_draws_of_another_tolerance_are_found_out(monkeypatch):
    monkeypatch.setattr(draws, "sigma_for", lambda tolerance, elements: 3 * tolerance)
    failed = {row.id for row in check_posterior(blocks(), Seeds(0, "posterior")) if not row.holds}
    assert failed >= {"posterior.spread", "posterior.certified"}


def test_an_observer_of_other_noise_is_found_out(monkeypatch):
    given = module.detectability
    monkeypatch.setattr(module, "detectability", lambda at, shapes: given(at, 1.05 * shapes))
    failed = {row.id for row in check_posterior(blocks(), Seeds(0, "posterior")) if not row.holds}
    assert failed == {"posterior.detectability"}


@pytest.mark.parametrize("part", [0.9, 0.0])
def test_discs_that_are_not_quite_taken_out_are_found_out(monkeypatch, part):
    class Leaky(WithoutDiscs):
        def forward(self, x):
            return self.out(torch.lerp(x, super().forward(x), part))

    monkeypatch.setattr(module, "WithoutDiscs", Leaky)
    (row,) = check_contrast(Seeds(0, "contrast"))
    assert not row.holds and row.value == pytest.approx(1 - part, abs=0.01)
