"""What is called certified is certified: Phi itself says so, and what cannot be refined is not shown as if it were."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import invkit
from invkit.certificates.certify import Scrutiny, certify
from invkit.certificates.curve import path_of
from invkit.certificates.figures import certification
from invkit.fiber.distance import activation_distance
from invkit.images.region import choose_region
from invkit.sampling.layer import ScaledLayer, allowed_spread, epsilon_of
from invkit.statistics.tree import as_json
from invkit.verdict.measures import Measures
from invkit.verdict.rules import judge


def network():
    torch.manual_seed(2)
    return nn.Sequential(nn.Conv2d(1, 4, 5, padding=2), nn.ReLU(), nn.Conv2d(4, 1, 5, padding=2))


def bench(layer, net=None, *, eta=0.3):
    denoiser = invkit.load(net or network())
    split = invkit.Split(denoiser, layer)
    random = torch.Generator().manual_seed(0)
    x = 100 * torch.randn(1, 1, 24, 24, generator=random)
    reconstruction = x + 3 * torch.randn(1, 1, 24, 24, generator=random)
    draws = reconstruction + 2 * torch.randn(10, 1, 24, 24, generator=random)
    scale = float(activation_distance(split.phi(draws), split.phi(x)).mean())
    reference = ScaledLayer.of(split, scale, eta, scale).at(x)
    return denoiser, reference, x, reconstruction, draws


@pytest.mark.parametrize("layer", ["0", "2", "output"])
def test_certified_samples_lie_within_epsilon_of_the_fiber(layer):
    denoiser, reference, x, reconstruction, draws = bench(layer)
    found = certify(draws, reference, reconstruction, seed=0, image=0)
    assert len(found.images) == 10
    distance = activation_distance(reference.split.phi(found.samples), reference.z) / reference.scale
    assert len(found.samples)
    assert (distance <= 1.01e-3).all()
    rows = found.rows(4)
    assert [row["sample"] for row in rows] == list(range(10))
    assert {row["image"] for row in rows} == {4}
    assert sum(row["certified"] for row in rows) == len(found.samples)
    before = activation_distance(reference.split.phi(found.proposals), reference.z) / reference.scale
    torch.testing.assert_close(found.certificates.before, before, rtol=1e-4, atol=0)
    f_error = (denoiser(found.images) - denoiser(x)).flatten(1).square().mean(1).sqrt()
    torch.testing.assert_close(found.f_error, f_error, rtol=1e-3, atol=1e-3)


def test_batches_do_not_decide_what_is_found():
    _denoiser, reference, _x, reconstruction, draws = bench("0")
    whole = certify(draws, reference, reconstruction, seed=0, image=0)
    part = certify(draws[:3], reference, reconstruction, seed=0, image=0)
    torch.testing.assert_close(part.images, whole.images[:3], atol=0.05, rtol=0)


def test_without_a_gradient_nothing_is_refined():
    class Steps(nn.Module):
        def forward(self, x):
            return (x / 10).round().detach() * 10

    net = nn.Sequential(Steps(), nn.Conv2d(1, 1, 1))
    _denoiser, reference, _x, reconstruction, draws = bench("0", net)
    assert certify(draws, reference, reconstruction, seed=0, image=0) is None


def test_epsilon_is_small_against_scale_and_noise():
    assert epsilon_of(0.5) == 1e-3
    assert epsilon_of(0.01) == pytest.approx(2e-4)


class Floor(nn.Module):
    """Has no negative values, so that half of what it is asked for cannot be reached."""

    def forward(self, x):
        return x.relu()


def test_what_does_not_converge_is_counted_and_never_shown():
    _denoiser, reference, _x, reconstruction, draws = bench("0", nn.Sequential(Floor(), nn.Conv2d(1, 1, 1)))
    below = replace(reference, z=-1 - reference.z.abs())
    found = certify(draws, below, reconstruction, seed=0, image=0, scrutiny=Scrutiny())
    assert len(found.images) == 10
    assert len(found.samples) == 0
    assert not found.enough
    assert not any(row["certified"] for row in found.rows(0))
    assert all(len(point.squares) == 0 for point in found.curve)
    judged = certification([found], [], pixel_scale=100.0, seed=0)
    figures = as_json(judged)
    assert figures["count"] == 0
    assert "spread_hu" not in figures
    assert all(point["spread_hu"] is None and point["count"] == 0 for point in figures["curve"])
    verdict = judge(Measures("layer 0", 12.0, certification=judged))
    assert any("Only 0 of 10" in warning and "no map" in warning for warning in verdict.warnings)


def test_the_curve_is_the_spread_at_every_tolerance():
    _denoiser, reference, _x, reconstruction, draws = bench("0")
    eta, epsilon = 0.3, 1e-3
    found = certify(
        draws,
        reference,
        reconstruction,
        seed=0,
        image=0,
        scrutiny=Scrutiny(),
    )
    levels = [point.epsilon for point in found.curve]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] == pytest.approx(eta)
    assert levels[-1] == pytest.approx(1e-4)
    assert levels[4] == epsilon
    assert len(levels) == 7
    for point in found.curve:
        assert point.refined >= 8
        assert (point.fiber_error <= point.epsilon).all()
    at_default = found.curve[4]
    count = at_default.refined
    held = found.images[:count][found.certificates.holds[:count]]
    expected = held.double().var(0).mean().sqrt().item()
    figures = as_json(certification([found], [], pixel_scale=100.0, seed=0))
    row = figures["curve"][4]
    assert row["spread_hu"]["value"] == pytest.approx(expected, rel=1e-4)
    assert row["spread_epsilon_hu"] == pytest.approx(0.1 * (row["count"] / (row["count"] - 1)) ** 0.5)
    spreads = [point["spread_hu"]["value"] for point in figures["curve"]]
    assert spreads == sorted(spreads, reverse=True)


@pytest.mark.parametrize("n", [2, 4, 16])
def test_no_samples_within_epsilon_of_x_vary_by_more_than_it_allows(n):
    x, aside = torch.randn(2, 1, 1, 6, 6, generator=torch.Generator().manual_seed(n))
    aside = 0.1 * aside / aside.square().mean().sqrt()
    # Half of them on either side: as far from their mean as they are from x.
    samples = torch.cat([x + aside if k % 2 else x - aside for k in range(n)])
    assert samples.double().var(0).mean().sqrt().item() == pytest.approx(allowed_spread(1e-3, 100.0, n))
    assert allowed_spread(1e-3, 100.0, 1) == pytest.approx(0.1)


def test_all_of_the_tolerance_may_be_spent_in_a_region():
    """The identity keeps everything: images at epsilon that differ from x in a region alone reach what is allowed there."""
    x = 40 + torch.randn(1, 1, 24, 32, generator=torch.Generator().manual_seed(0))
    region = choose_region("4,8,12,10", (24, 32))
    assert region.part == pytest.approx(120 / 768)
    shape = torch.zeros_like(x)
    shape[..., 8:18, 4:16] = 1
    apart = shape * 0.1 / shape.square().mean().sqrt()
    n = 8
    images = torch.cat([x + apart, x - apart] * (n // 2))
    assert (images - x).square().mean((1, 2, 3)).sqrt().max().item() == pytest.approx(0.1, rel=1e-5)
    spread = region.pixels(images).double().var(0).mean().sqrt().item()
    assert spread == pytest.approx(allowed_spread(1e-3, 100.0, n, region.part), rel=1e-4)
    assert spread > 2 * allowed_spread(1e-3, 100.0, n)


class Identity(nn.Module):
    def forward(self, x):
        return x.clone()


def test_nothing_is_proven_of_a_region_for_a_layer_that_keeps_everything():
    """Proposals that differ in the region most spend most of the tolerance there."""
    _denoiser, reference, x, reconstruction, draws = bench("0", nn.Sequential(Identity(), nn.Conv2d(1, 1, 1)))
    region = choose_region("4,4,8,8", (24, 24))
    louder = x + (draws - x) * (1 + 20 * region.mask.float())
    found = certify(
        louder,
        reference,
        reconstruction,
        seed=0,
        image=0,
        scrutiny=Scrutiny(region=region),
    )
    judged = certification([found], [], pixel_scale=reference.scale, seed=0, region=region)
    figures = as_json(judged)
    whole = as_json(certification([found], [], pixel_scale=reference.scale, seed=0))
    assert judged.count == len(draws)
    # Held against what the whole image allows it would pass for a proof.
    assert whole["spread_epsilon_hu"] < figures["spread_hu"]["value"] < figures["spread_epsilon_hu"]
    assert "nothing is proven" in " ".join(judge(Measures("layer 0", 12.0, certification=judged)).sentences)
    assert found.rows(0)[0]["spread_epsilon_hu"] == pytest.approx(figures["spread_epsilon_hu"])
    assert all(point["spread_hu"]["value"] < point["spread_epsilon_hu"] for point in figures["curve"])


@pytest.mark.parametrize(("eta", "epsilon"), [(0.13, 1e-3), (0.01, 2e-4), (0.002, 4e-5), (1e-3, 1e-3)])
def test_tolerances_fall_from_eta_over_the_default(eta, epsilon):
    levels = path_of(eta, epsilon)
    assert list(levels) == sorted(set(levels), reverse=True)
    assert epsilon in levels
    assert levels[0] == pytest.approx(max(eta, epsilon))
    assert levels[-1] == pytest.approx(min(epsilon, 1e-4))
