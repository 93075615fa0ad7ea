"""What hides from a network with weights drawn anew, beside its own."""

import pytest
import torch
from small_network import Fixed, convolutions
from torch import nn

import invkit
from invkit import artifacts
from invkit.denoisers.loaded import load_denoiser, wrap_module
from invkit.fiber.tangent import Tangent
from invkit.measures.random_weights import WeightRandomisation
from invkit.noise.covariance import NoiseCovariance
from invkit.posterior.draws import sigma_for
from invkit.split.split import Split
from invkit.statistics.intervals import Interval
from invkit.tolerance.frame import Frame
from invkit.tolerance.layer import TolerancedLayer


@pytest.mark.parametrize(
    ("module", "reason"), [(nn.AvgPool2d(3, 1, 1), "no weights"), (Fixed(), "reset_parameters")]
)
def test_without_weights_to_draw_there_is_no_control(module, reason):
    f = wrap_module(module)
    figures, found = WeightRandomisation.of(f).hidden([toleranced(f, "output")], Split(f, "input"), seed=0)
    assert reason in figures["unavailable"]
    assert found is None


def toleranced(f, layer, size=(80, 100), inner=None):
    x = 40 + 20 * torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(0))
    split = Split(f, layer)
    noise = NoiseCovariance(torch.full(size, 20.0))
    return TolerancedLayer.of(split, x, f(x), noise, seed=0, tangent=Tangent(split.phi_grad), inner=inner)


def test_three_layers_are_drawn_for_at_one_tolerance_in_a_window():
    f = wrap_module(convolutions())
    layer = toleranced(f, "0").at(0.1, Frame(2, (80, 100)))
    figures, found = WeightRandomisation.of(f).hidden([layer], Split(f, "input"), seed=0)
    assert figures == {**found.figures(), "redraws": 6}
    # The identity with white noise of sigma S: C (I - C (C + s^2)^-1) has a trace in closed form over frequencies.
    noise = NoiseCovariance(torch.full((64, 64), 20.0))
    power = (20 * noise.gain.double()) ** 2
    weight = torch.full_like(power, 2.0)
    weight[:, 0] = weight[:, -1] = 1.0
    sigma2 = (sigma_for(0.1, 64) * 20 * 2**0.5) ** 2
    left = power * sigma2 / (power + sigma2)
    truth = float((left * weight).sum() / 64**2) ** 0.5
    assert figures["identity_hidden_hu"].value == pytest.approx(truth, rel=0.03)
    assert figures["hidden_hu"].value != figures["own_hidden_hu"].value > 0


def test_the_window_lies_in_the_middle_of_what_may_vary():
    """Where only a corner may vary, that is another window than the middle of the image."""
    f = wrap_module(convolutions())
    corner = (slice(0, 64), slice(30, 94))
    layer = toleranced(f, "0", inner=corner).at(0.1, Frame(0, (80, 100), corner))
    here = toleranced(f, "0").at(0.1, Frame(0, (80, 100)))
    found = [WeightRandomisation.of(f).hidden([one], Split(f, "input"), seed=0)[0] for one in (layer, here)]
    assert found[0]["own_hidden_hu"] != found[1]["own_hidden_hu"]


def test_what_does_not_converge_says_so(monkeypatch):
    f = wrap_module(convolutions())
    monkeypatch.setattr("invkit.posterior.draws.STEPS", 1)
    monkeypatch.setattr("invkit.posterior.draws.PRODUCTS", 1)
    figures, found = WeightRandomisation.of(f).hidden([toleranced(f, "0")], Split(f, "input"), seed=0)
    assert "too nearly singular" in figures["unavailable"]
    assert found is None


def test_two_networks_that_were_never_trained_are_not_told_apart():
    """Each is one redraw more, so at most about one in forty may exceed the interval; nobody speaks of training."""
    claims = []
    for seed in range(4):
        torch.manual_seed(seed)
        f = wrap_module(convolutions())
        layer = toleranced(f, "0").at(0.1, Frame(2, (80, 100)))
        figures, found = WeightRandomisation.of(f, seed=1).hidden([layer], Split(f, "input"), seed=0)
        assert figures["redraws"] == 6
        assert figures["hidden_hu"].known
        assert not found.trained
        claims.append(Interval.of(found.own).above(Interval.of(found.random)))
    assert sum(claims) == 0


def test_redraws_differ_and_follow_from_the_seed():
    f = wrap_module(convolutions())
    layer = toleranced(f, "0").at(0.1, Frame(2, (80, 100)))
    hidden = [
        WeightRandomisation.of(f, seed=seed).hidden([layer], Split(f, "input"), seed=0)[0]["hidden_hu"]
        for seed in (0, 0, 1)
    ]
    assert hidden[0] == hidden[1] != hidden[2]
    assert hidden[0].low < 0.97 * hidden[0].value < hidden[0].value < 0.97 * hidden[0].high


@pytest.mark.parametrize(("stated", "trained"), [("phantoms", True), ("not stated", False), (None, False)])
def test_training_is_known_from_the_weights_alone(stated, trained, tmp_path):
    path = tmp_path / "w.safetensors"
    sha256 = artifacts.save(path, convolutions().state_dict(), kind="denoiser", meta={})
    weights = () if stated is None else (invkit.Weights("mine", str(path), sha256, stated, "CC0-1.0"),)
    spec = invkit.Denoiser("small", convolutions, invkit.Affine(0.0, 1.0), weights=weights)
    assert WeightRandomisation.of(load_denoiser(spec)).was_trained is trained
    assert not WeightRandomisation.of(load_denoiser(spec, untrained_seed=3)).was_trained
