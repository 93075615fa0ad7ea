"""The same network with weights drawn anew: which networks have one, and what its figures are."""

import copy

import pytest
import torch
from torch import nn

import invkit
from invkit.certificates.certify import refine_proposals
from invkit.data.slices import load_slices
from invkit.denoisers.loaded import load_denoiser, wrap_module
from invkit.errors import InvkitError
from invkit.fiber.distance import activation_distance
from invkit.images.region import Region
from invkit.measures.random_weights import WeightRandomisation, redrawn
from invkit.parts.scales import layer_scales
from invkit.sampling.layer import ScaledLayer
from invkit.split.split import Split


def network():
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))


@pytest.fixture(scope="module")
def slices():
    return load_slices(["phantoms:12"], seed=0)


def test_a_network_that_was_given_is_reset_in_a_copy():
    given = network()
    before = copy.deepcopy(given.state_dict())
    state = torch.random.get_rng_state()
    first, again, other = (redrawn(wrap_module(given), seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in given.state_dict().items())
    assert first.sha256 == again.sha256
    assert len({first.sha256, other.sha256, wrap_module(given).sha256}) == 3
    # as torch initialises a convolution with 9 inputs: uniform within a third
    weight = first.network[0].weight
    assert 0.2 < weight.abs().max() <= 1 / 3


def test_a_network_that_is_built_is_built_again():
    spec = invkit.Denoiser(name="small", build=network, preprocessing=invkit.Affine(mean=10.0, std=2.0))
    denoiser = load_denoiser(spec)
    random = redrawn(denoiser)
    assert random.sha256 != denoiser.sha256
    assert random.preprocessing == denoiser.preprocessing
    assert not torch.equal(random.network[0].weight, denoiser.network[0].weight)


class Fixed(nn.Module):
    """Weights that no module knows how to draw."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.5))

    def forward(self, x):
        return self.gain * x


@pytest.mark.parametrize(
    ("module", "reason"), [(nn.AvgPool2d(3, 1, 1), "no weights"), (Fixed(), "reset_parameters")]
)
def test_without_weights_to_draw_there_is_no_control(module, reason, slices):
    with pytest.raises(InvkitError, match=reason):
        redrawn(wrap_module(module))
    control = WeightRandomisation.of(wrap_module(module), slices, dose=0.25)
    own = ScaledLayer.of(Split(wrap_module(module), "output"), 100.0, 0.5, 100.0)
    figures, spreads = control.measure(
        own, torch.zeros(1, 1, 32, 32), (), wrap_module(module), samples=4, seed=0
    )
    assert reason in figures["unavailable"]
    assert spreads is None


@pytest.fixture(scope="module")
def case(slices):
    f = wrap_module(network())
    noise = torch.randn(11, 1, 80, 100, generator=torch.Generator().manual_seed(0))
    x = 40 + 20 * noise[:1]
    split = Split(f, "0")
    own = ScaledLayer.of(split, 100.0, 0.5, 50.0)
    proven = refine_proposals(x + 20 * noise[1:], own.at(x))
    return WeightRandomisation.of(f, slices, dose=0.25), f, x, proven, own


@pytest.fixture(scope="module")
def measured(case):
    control, f, x, proven, own = case
    return control, *control.measure(own, x, [proven], f, samples=10, seed=0)


def refined_there(own, x, proven, inside):
    """Return what the trained layer makes of the first six proposals in a window."""
    part = x[inside]
    proposals = proven.proposals[:6][inside]
    return refine_proposals(proposals, own.at(part)).samples


def test_the_same_proposals_are_refined_for_the_random_layer_in_a_window(case, measured):
    control, _, x, proven, own = case
    _, figures, found_spreads = measured
    random, trained = found_spreads.random, found_spreads.trained
    found = figures["certified"]
    assert found["refined"] == 6
    assert 2 <= found["count"] <= 6
    assert found["epsilon"] == min(1e-3, 0.02 * figures["noise_distance"])
    assert found["spread_hu"] == random
    assert found["f_error_hu"].value > 0
    inside = (..., slice(8, 72), slice(18, 82))  # the middle 64 x 64 of 80 x 100
    samples = refined_there(own, x, proven, inside)
    deviation = samples.double().std(0).square().mean().sqrt().item()
    assert trained.value == pytest.approx(deviation, rel=1e-3)
    assert found["trained_spread_hu"] == trained
    assert found["trained_count"] == len(samples)
    allowed = 1e-3 * 50 * (len(samples) / (len(samples) - 1)) ** 0.5
    assert found["trained_spread_epsilon_hu"] == found_spreads.allowed == pytest.approx(allowed)
    split = Split(control.denoiser, "0")
    before = activation_distance(split.phi(proven.proposals[:6][inside]), split.phi(x[inside]))
    s_phi = layer_scales(split, control.sampler, pairs=64, seed=0, device="cpu")[0]
    relative = (before / s_phi).square().mean().sqrt().item()
    assert found["fiber_error_before"].value == pytest.approx(relative, rel=1e-3)


def test_the_window_is_around_the_region_and_within_the_image(case):
    control, f, x, proven, own = case
    mask = torch.zeros(80, 100, dtype=torch.bool)
    mask[70:80, 0:10] = True
    _, spreads = control.measure(own, x, [proven], f, samples=10, seed=0, region=Region(mask, ""))
    samples = refined_there(own, x, proven, (..., slice(16, 80), slice(0, 64)))
    corner = samples.double().std(0).square().mean().sqrt().item()
    assert spreads.trained.value == pytest.approx(corner, rel=1e-3)


def test_scales_are_root_mean_square_differences_of_patches(measured):
    control, figures, _ = measured
    split = Split(control.denoiser, "0")
    x = torch.cat([control.sampler.batch(step, 32).x for step in range(4)])
    pairs = activation_distance(split.phi(x[:64]), split.phi(x[64:]))
    s_phi = pairs.square().mean().sqrt()
    batch = control.sampler.batch(0, 32)
    # the noise of x alone moves Phi by eta / sqrt(2)
    own = activation_distance(split.phi(batch.x), split.phi(batch.y)).square().mean().sqrt()
    assert figures["noise_distance"] == pytest.approx(float(own / s_phi) * 2**0.5, rel=0.35)


def test_what_takes_too_long_is_given_up_after_one_trial(case, monkeypatch):
    control, f, x, proven, own = case
    monkeypatch.setattr("invkit.measures.random_weights.TRIAL_STEPS", 1)
    monkeypatch.setattr("invkit.measures.random_weights.TRIAL_PRODUCTS", 1)
    figures, spread = control.measure(own, x, [proven], f, samples=10, seed=0)
    assert "does not reach epsilon in 1 steps" in figures["unavailable"]
    assert "certified" not in figures
    assert spread is None


def test_nothing_is_refined_where_nothing_was_asked_for(case):
    control, f, x, _, own = case
    figures, spread = control.measure(own, x, (), f, samples=4, seed=0)
    assert set(figures) == {"unavailable"}
    assert spread is None
