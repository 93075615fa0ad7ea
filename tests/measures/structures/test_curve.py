"""What hides at every mark: in proportion to the tolerance for the identity, and as the closed form has it."""

import pytest
import torch
from scaled_network import Scaled

from invkit.fiber.tangent import Tangent
from invkit.measures.structures.curve import CURVE_MARKS, measure_curve
from invkit.noise.covariance import NoiseCovariance
from invkit.posterior.draws import sigma_for
from invkit.split.split import Split
from invkit.statistics.tree import as_json
from invkit.tolerance.layer import TolerancedLayer

LEVEL, SIDE = 20.0, 48


@pytest.fixture(scope="module")
def points():
    covariance = NoiseCovariance(torch.full((SIDE, SIDE), LEVEL))
    x = 40 + covariance.draws(1, torch.Generator().manual_seed(0))
    layers = []
    for name in ("inner", "input"):
        split = Split(Scaled(), name)
        tangent = Tangent(split.phi_grad)
        layers.append(TolerancedLayer.of(split, x, split.denoiser(x), covariance, seed=0, tangent=tangent))
    return [as_json(point.figures()) for point in measure_curve(layers[:1], layers[1:], seed=0)]


def test_there_is_a_point_for_every_mark_but_the_headlines(points):
    assert {point["mark"] for point in points} == set(CURVE_MARKS)
    tolerances = [point["tolerance"] for point in points]
    assert tolerances == sorted(tolerances)
    assert [point["tolerance"] for point in points if point["mark"] == "repeat"] == [1.0]


def test_discs_are_in_proportion_to_the_tolerance(points):
    for radius in (0, 1):
        ratios = [point["discs"][radius]["hidden_hu"]["value"] / point["tolerance"] for point in points]
        assert max(ratios) <= 1.03 * min(ratios)
        for point in points:
            disc = point["discs"][radius]
            assert disc["hidden_hu"]["value"] == pytest.approx(disc["identity_hidden_hu"]["value"], rel=0.03)
    assert points[0]["discs"][0]["hidden_hu"]["value"] > points[0]["discs"][1]["hidden_hu"]["value"]


def test_noise_is_that_of_the_closed_form_at_every_mark(points):
    noise = NoiseCovariance(torch.full((SIDE, SIDE), LEVEL, dtype=torch.float64))
    unit = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.float64)
    unit[..., 0, 0] = 1
    power = torch.fft.fft2(noise.apply(unit)).real
    for point in points:
        s = sigma_for(point["tolerance"], 64) * 2**0.5 * LEVEL
        expected = float((power * s**2 / (power + s**2)).mean().sqrt())
        # One draw has no interval, and is a plain number.
        assert point["hidden_hu"] == pytest.approx(expected, rel=0.08)
        assert point["identity_hidden_hu"] == pytest.approx(expected, rel=0.08)
