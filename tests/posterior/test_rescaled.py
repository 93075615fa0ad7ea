"""What hides for half and twice the covariance, against the closed form of a linear layer."""

import pytest
import torch
from linear_layer import SIZE, LinearLayer

from invkit.posterior import rescaled
from invkit.posterior.draws import sigma_for
from invkit.posterior.rescaled import rescaled_spread
from invkit.statistics.intervals import Interval
from invkit.tolerance.frame import Frame
from invkit.tolerance.layer import TolerancedLayer
from invkit.tolerance.marks import Marks

ONE = Interval(10.0, 9.0, 11.0)


def toleranced(linear, tolerance=3.0):
    return TolerancedLayer(
        linear.split,
        linear.x,
        linear.split.denoiser(linear.x),
        linear.covariance,
        linear.windows,
        Marks({"given": tolerance}, 1.0, "given"),
        Frame(0, (SIZE, SIZE)),
        linear.tangent,
    )


def test_ratios_are_those_of_the_closed_form():
    linear = LinearLayer()
    layer = toleranced(linear)
    sigma = sigma_for(layer.tolerance, layer.windows.elements())

    def trace(factor):
        scaled = LinearLayer()
        scaled.matrix = factor * linear.matrix
        return float(scaled.posterior(sigma).trace())

    found = rescaled_spread(ONE, [layer] * 80, seed=0)  # each with random numbers of its own
    for name, factor in (("hidden_half_hu", 0.5), ("hidden_double_hu", 2.0)):
        expected = (trace(factor) / trace(1)) ** 0.5
        assert abs(expected - factor**0.5) > 0.05  # or the prior alone would do
        assert found[name].value / ONE.value == pytest.approx(expected, rel=0.015)
        assert found[name].low / ONE.low == pytest.approx(found[name].value / ONE.value)


def test_a_blind_layer_hides_as_much_more_as_there_is():
    blind = LinearLayer()
    with torch.no_grad():
        blind.network[0].weight.zero_()
    found = rescaled_spread(ONE, [toleranced(blind), toleranced(blind)], seed=0)
    assert found["hidden_half_hu"].value == pytest.approx(10 / 2**0.5)
    assert found["hidden_double_hu"].high == pytest.approx(11 * 2**0.5)


def test_without_a_spread_or_a_solution_there_is_none(monkeypatch):
    layer = toleranced(LinearLayer())
    nothing = {"hidden_half_hu": None, "hidden_double_hu": None}
    assert rescaled_spread(None, [layer], seed=0) == nothing
    monkeypatch.setattr(rescaled, "PRODUCTS", 1)
    monkeypatch.setattr(rescaled, "WITHIN", 1e-9)
    assert rescaled_spread(ONE, [layer], seed=0) == nothing
