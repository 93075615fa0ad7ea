"""The same network with weights drawn anew: all of them, whatever stands before them."""

import copy

import pytest
import torch
from small_network import Fixed, convolutions
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

import invkit
from invkit.denoisers.loaded import load_denoiser, wrap_module
from invkit.errors import InvkitError
from invkit.measures.redrawn import redrawn


def test_a_network_that_was_given_is_reset_in_a_copy():
    given = convolutions()
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
    spec = invkit.Denoiser(name="small", build=convolutions, preprocessing=invkit.Affine(mean=10.0, std=2.0))
    denoiser = load_denoiser(spec)
    random = redrawn(denoiser)
    assert random.sha256 != denoiser.sha256
    assert random.preprocessing == denoiser.preprocessing
    assert not torch.equal(random.network[0].weight, denoiser.network[0].weight)


@pytest.mark.parametrize(
    ("module", "reason"), [(nn.AvgPool2d(3, 1, 1), "no weights"), (Fixed(), "reset_parameters")]
)
def test_without_weights_to_draw_there_is_no_control(module, reason):
    with pytest.raises(InvkitError, match=reason):
        redrawn(wrap_module(module))


def unnormalised(module):
    return module


NORMS = {
    "none": unnormalised,
    "weight_norm, hooks": weight_norm,
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm, hooks": spectral_norm,
    "spectral_norm": parametrizations.spectral_norm,
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_every_weight_is_drawn_as_without_its_normalisation_and_normalised_again(norm):
    torch.manual_seed(0)
    given = nn.Sequential(
        NORMS[norm](nn.Conv2d(1, 4, 3, padding=1)), nn.ReLU(), NORMS[norm](nn.Conv2d(4, 1, 3, padding=1))
    )
    x = 30 * torch.randn(1, 1, 32, 32)
    f = wrap_module(given)
    before, out = {name: value.clone() for name, value in given.named_parameters()}, f(x)
    random, again, other = (redrawn(f, number=number) for number in (0, 0, 1))
    now = dict(random.network.named_parameters())
    assert now.keys() == before.keys()
    assert not any(torch.equal(now[name], before[name]) for name in before)
    assert torch.equal(random(x), again(x))
    assert not torch.equal(random(x), other(x))
    assert not torch.equal(random(x), out)
    for first, module in ((0, random.network[0]), (2, random.network[2])):
        weight = module.weight.detach()
        if norm.startswith("spectral"):
            assert float(torch.linalg.svdvals(weight.flatten(1))[0]) == pytest.approx(1, abs=1e-2)
        else:  # uniform within 1 / sqrt(inputs)
            bound = 1 / 3 if first == 0 else 1 / 6
            assert 0.6 * bound < weight.abs().max() <= bound * 1.0001
    # the network that was given is as it was
    assert torch.equal(f(x), out)
    assert all(torch.equal(value, before[name]) for name, value in given.named_parameters())


class Loads(nn.Module):
    """Half of it is new each time, half of it is what a file would hold; and a third part that nothing uses."""

    def __init__(self):
        super().__init__()
        self.new = nn.Conv2d(1, 1, 3, padding=1)
        self.old, self.unused = nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 3)
        self.norm = nn.BatchNorm2d(1)
        for name, value in torch.load(self.file).items():
            getattr(self, name).weight.data.copy_(value)

    def forward(self, x):
        return self.norm(self.old(self.new(x)))


@pytest.mark.parametrize(("part", "refused"), [("old", True), ("unused", False)])
def test_a_parameter_that_stays_is_refused_where_f_depends_on_it(part, refused, tmp_path):
    torch.save({part: torch.arange(9.0).view(1, 1, 3, 3)}, tmp_path / "part.pt")
    build = type("Built", (Loads,), {"file": tmp_path / "part.pt"})
    f = load_denoiser(invkit.Denoiser("half", build, invkit.Affine(0.0, 1.0)))
    if refused:
        with pytest.raises(InvkitError, match=r"its parameter old.weight is the same after it was redrawn"):
            redrawn(f)
    else:
        assert redrawn(f).sha256 != f.sha256
