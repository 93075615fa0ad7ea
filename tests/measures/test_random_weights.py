"""The same network with weights drawn anew: which networks have one, and what its figures are."""

import copy

import pytest
import torch
from torch import nn

import invkit
from invkit.denoisers.loaded import load_denoiser, wrap_module
from invkit.errors import InvkitError
from invkit.fiber.tangent import Tangent
from invkit.measures.random_weights import WeightRandomisation, redrawn
from invkit.noise.covariance import NoiseCovariance
from invkit.posterior.draws import sigma_for
from invkit.split.split import Split
from invkit.tolerance.frame import Frame
from invkit.tolerance.layer import TolerancedLayer


def network():
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))


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
def test_without_weights_to_draw_there_is_no_control(module, reason):
    with pytest.raises(InvkitError, match=reason):
        redrawn(wrap_module(module))
    control = WeightRandomisation.of(wrap_module(module))
    assert (
        reason in control.hidden([toleranced(wrap_module(module), "output")], None, seed=0)[0]["unavailable"]
    )


def toleranced(f, layer, size=(80, 100), inner=None):
    x = 40 + 20 * torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(0))
    split = Split(f, layer)
    noise = NoiseCovariance(torch.full(size, 20.0))
    return TolerancedLayer.of(split, x, f(x), noise, seed=0, tangent=Tangent(split.phi_grad), inner=inner)


def test_three_layers_are_drawn_for_at_one_tolerance_in_a_window():
    f = wrap_module(network())
    layer = toleranced(f, "0").at(0.1, Frame(2, (80, 100)))
    figures, found = WeightRandomisation.of(f).hidden([layer], Split(f, "input"), seed=0)
    assert figures == found.figures()
    # The identity with white noise of sigma S: C (I - C (C + s^2)^-1) has a trace in closed form over frequencies.
    noise = NoiseCovariance(torch.full((64, 64), 20.0))
    power = (20 * noise.gain.double()) ** 2
    weight = torch.full_like(power, 2.0)
    weight[:, 0] = weight[:, -1] = 1.0
    sigma2 = (sigma_for(0.1, 64) * 20 * 2**0.5) ** 2
    left = power * sigma2 / (power + sigma2)
    truth = float((left * weight).sum() / 64**2) ** 0.5
    assert figures["identity_hidden_hu"].value == pytest.approx(truth, rel=0.03)
    assert figures["hidden_hu"].value != figures["trained_hidden_hu"].value > 0


def test_the_window_lies_in_the_middle_of_what_may_vary():
    """Where only a corner may vary, that is another window than the middle of the image."""
    f = wrap_module(network())
    corner = (slice(0, 64), slice(30, 94))
    layer = toleranced(f, "0", inner=corner).at(0.1, Frame(0, (80, 100), corner))
    here = toleranced(f, "0").at(0.1, Frame(0, (80, 100)))
    found = [WeightRandomisation.of(f).hidden([one], Split(f, "input"), seed=0)[0] for one in (layer, here)]
    assert found[0]["trained_hidden_hu"] != found[1]["trained_hidden_hu"]


def test_what_does_not_converge_says_so(monkeypatch):
    f = wrap_module(network())
    monkeypatch.setattr("invkit.posterior.draws.STEPS", 1)
    monkeypatch.setattr("invkit.posterior.draws.PRODUCTS", 1)
    figures, found = WeightRandomisation.of(f).hidden([toleranced(f, "0")], Split(f, "input"), seed=0)
    assert "too nearly singular" in figures["unavailable"]
    assert found is None
