"""Figures of structures and noise where they are known."""

import pytest
import torch
from scaled_network import Scaled
from torch import nn

from invkit.fiber.tangent import Tangent
from invkit.measures.structures.plan import Breadth
from invkit.measures.structures.summary import measure_structures
from invkit.noise.covariance import NoiseCovariance
from invkit.posterior.draws import Posterior, sigma_for
from invkit.split.split import Split
from invkit.statistics.tree import as_json
from invkit.tolerance.layer import TolerancedLayer

LEVEL, SIDE = 20.0, 48


def value(figure):
    return figure["value"] if isinstance(figure, dict) else figure


def structures(network, layer="inner", side=SIDE, images=1, full=None):
    covariance = NoiseCovariance(torch.full((side, side), LEVEL))
    x = 40 + covariance.draws(images, torch.Generator().manual_seed(0))
    both = []
    for name in (layer, "input"):
        split = Split(network, name)
        tangent = Tangent(split.phi_grad)
        both.append(
            [
                TolerancedLayer.of(split, one, split.denoiser(one), covariance, seed=0, tangent=tangent)
                for one in x.split(1)
            ]
        )
    draws = [Posterior.of(one).draw(8, seed=0) for one in both[0]]
    found = measure_structures(*both, draws, size=(side, side), spacing=0.5, seed=0, full=full)
    assert found.window is None
    return found


def figures(*args, **options):
    return as_json(structures(*args, **options).figures())


@pytest.fixture(scope="module")
def identity():
    return figures(Scaled())


def test_the_identity_keeps_all_and_hides_what_the_tolerance_does(identity):
    assert [row["radius_px"] for row in identity["structures"]] == [1, 2, 4, 8]
    for row in identity["structures"]:
        assert row["kind"] == "disc"
        assert row["radius_mm"] == row["radius_px"] / 2
        assert value(row["contrast_kept"]) == pytest.approx(1, abs=1e-3)
        for name in ("detectability_lost", "hidden_hu", "hidden_companion_hu"):
            ours, theirs = value(row[name]), value(row[f"identity_{name}"])
            assert ours == pytest.approx(theirs, rel=0.05)
    noise = {key: value(figure) for key, figure in identity["noise"].items()}
    assert noise["in_hu"] == pytest.approx(LEVEL, rel=0.05)
    assert noise["out_hu"] == pytest.approx(noise["in_hu"], rel=0.05)
    assert noise["hidden_hu"] == pytest.approx(noise["identity_hidden_hu"], rel=0.03)
    assert identity["frame_px"] == 0 and identity["frame_needs_px"] is None
    for row in identity["worst_case"]:
        assert row["hidden_hu"] == pytest.approx(row["identity_hidden_hu"], rel=0.03)


def test_hidden_noise_is_that_of_the_closed_form(identity):
    """For z = x and stationary noise the posterior is diagonal in frequency: power P becomes P s^2 / (P + s^2)."""
    noise = NoiseCovariance(torch.full((SIDE, SIDE), LEVEL, dtype=torch.float64))
    unit = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.float64)
    unit[..., 0, 0] = 1
    power = torch.fft.fft2(noise.apply(unit)).real
    s = sigma_for(identity["tolerance"]["value"], 64) * 2**0.5 * LEVEL
    expected = float((power * s**2 / (power + s**2)).mean().sqrt())
    assert identity["noise"]["hidden_hu"]["value"] == pytest.approx(expected, rel=0.06)


def test_a_layer_of_half_the_contrast_is_told_by_f_alone():
    found = figures(Scaled(0.5))
    for row in found["structures"]:
        assert value(row["contrast_kept"]) == pytest.approx(0.5, abs=1e-3)
    assert found["noise"]["out_hu"]["value"] == pytest.approx(found["noise"]["in_hu"]["value"] / 2, rel=0.05)
    assert found["tolerance"]["hu_at_output"] == pytest.approx(400 / 256)


def test_a_layer_that_averages_loses_small_discs_more_than_large_ones():
    network = nn.Sequential(nn.AvgPool2d(4), nn.Upsample(scale_factor=4))
    found = figures(network, layer="0", side=64)
    ratios = [value(row["hidden_hu"]) / value(row["identity_hidden_hu"]) for row in found["structures"]]
    assert ratios == sorted(ratios, reverse=True) and ratios[0] > 1.3 * ratios[-1]
    lost = [row["detectability_lost"]["value"] for row in found["structures"]]
    assert lost[0] > 10 * found["structures"][0]["identity_detectability_lost"]["value"]
    values = [value(row["contrast_kept"]) for row in found["structures"]]
    assert values == sorted(values) and values[0] < 0.4
    assert found["noise"]["hidden_hu"]["value"] > 2 * found["noise"]["identity_hidden_hu"]["value"]


def test_where_the_interior_is_too_small_no_spread_is_given():
    network = nn.Sequential(nn.Conv2d(1, 1, 9, padding=4), nn.Conv2d(1, 1, 1))
    with torch.no_grad():
        network[0].weight.fill_(1 / 81)
        network[1].weight.fill_(1.0)
    found = figures(network, layer="0", side=36)
    assert found["noise"]["hidden_hu"] is None
    assert found["frame_px"] == 4
    assert found["frame_needs_px"] == 32 + 2 * found["frame_px"]


def test_all_kinds_are_told_apart_from_the_discs_that_are_always_there():
    network = nn.Sequential(nn.AvgPool2d(2), nn.Upsample(scale_factor=2))
    discs, full = (structures(network, layer="0", full=full) for full in (None, Breadth()))
    assert full.found.discs == discs.found.discs
    assert discs.found.every == [] and len(full.found.every) == len(full.rows) == 4 * 10
    least = min(full.found.every, key=lambda one: one.kept)
    assert least.name == "line pairs of 2 px in soft tissue"
    kinds = {row["kind"] for row in as_json(full.figures())["structures"]}
    assert kinds == {"disc", "edge", "line_pair", "texture"}
