"""What a denoiser is tested for where it is loaded: its state, its batches, its sizes, its units' map."""

import sys
import time
import warnings

import pytest
import torch
from small_network import Function, convolutions
from torch import nn
from torch.nn import functional

from invkit.denoisers.contract import check_contract, inverse_error, probed
from invkit.denoisers.loaded import load_denoiser, wrap_module
from invkit.denoisers.spec import Affine, Denoiser
from invkit.errors import DenoiserError
from invkit.plugins.load import load
from invkit.plugins.manager import PluginHost


def images(n: int = 2, height: int = 32, width: int = 40) -> torch.Tensor:
    return 100 * torch.randn(n, 1, height, width, generator=torch.Generator().manual_seed(3))


class ActNorm(nn.Module):
    """Sets itself from the first batch that it sees, as those of flows do."""

    def __init__(self):
        super().__init__()
        self.shift, self.scale = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.ones(1))
        self.register_buffer("ready", torch.tensor(False))
        self.seen = 0

    def forward(self, x):
        if not self.ready:
            self.shift.data.fill_(x.detach().mean())
            self.scale.data.fill_(x.std())
            self.ready.fill_(True)
            self.seen = 1
        return (x - self.shift) / self.scale


class Running(nn.Module):
    """Replaces its running mean at every call, eval mode or not."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))

    def forward(self, x):
        self.mean = 0.9 * self.mean + 0.1 * x.mean()
        return x - self.mean


class Attention(nn.Module):
    """Attends within windows; no image whose sides are no multiples of them can be cut into windows."""

    def __init__(self, window):
        super().__init__()
        self.window, self.mix = window, nn.Linear(window * window, window * window)

    def forward(self, x):
        b, c, h, w = x.shape
        n = self.window
        parts = x.view(b, c, h // n, n, w // n, n).transpose(3, 4).reshape(b, c, h // n, w // n, n * n)
        back = self.mix(parts).view(b, c, h // n, w // n, n, n).transpose(3, 4)
        return back.reshape(b, c, h, w)


class Placed(nn.Module):
    """Adds a number for each place of images of one size, as transformers do."""

    def __init__(self, side):
        super().__init__()
        self.place = nn.Parameter(torch.rand(1, 1, side, side))

    def forward(self, x):
        return x + self.place


def strided(depth):
    """Return a network that halves its grid so many times and gives what it has left back, doubled as often."""
    down = [nn.Conv2d(1, 1, 3, stride=2, padding=1) for _ in range(depth)]
    up = [nn.ConvTranspose2d(1, 1, 2, stride=2) for _ in range(depth)]
    return nn.Sequential(*down, *up)


@pytest.mark.parametrize(
    ("network", "names"), [(ActNorm, "shift, scale, ready"), (Running, "mean")], ids=["actnorm", "running"]
)
@pytest.mark.parametrize("test", [probed, lambda loaded: check_contract(loaded, images())])
def test_a_network_that_changes_its_own_state_is_refused_and_put_back(network, names, test):
    module = network()
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    parameters = list(module.parameters())
    with pytest.raises(DenoiserError, match=f"changes its own state when it runs: {names}"):
        test(wrap_module(module))
    assert all(torch.equal(state[name], tensor) for name, tensor in module.state_dict().items())
    assert all(one is other for one, other in zip(parameters, module.parameters(), strict=True))
    assert getattr(module, "seen", 0) == 0


def test_the_state_is_put_back_when_the_network_raises_after_it_has_changed_it():
    class Broken(ActNorm):
        def forward(self, x):
            super().forward(x.detach())
            raise RuntimeError("out of luck")

    module = Broken()
    with pytest.raises(DenoiserError, match="shift, scale, ready"):
        probed(wrap_module(module))
    assert float(module.shift.detach()) == 0
    assert not module.ready


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4, track_running_stats=False), nn.Conv2d(4, 1, 1)
        ),
        Function(lambda x: x - x.mean(0, keepdim=True)),
        Function(lambda x: x.flip(0)),
        Function(lambda x: torch.roll(x, 1, 0)),
    ],
    ids=["batch norm", "mean", "flip", "roll"],
)
def test_a_network_that_mixes_the_images_of_a_batch_is_refused(module):
    with pytest.raises(DenoiserError, match="mixes the images of a batch"):
        probed(wrap_module(module))
    with pytest.raises(DenoiserError, match="mixes the images of a batch"):
        check_contract(wrap_module(module), images())
    with pytest.raises(DenoiserError, match="mixes the images of a batch"):
        load(module)


def test_stored_statistics_and_normalisation_of_each_image_are_accepted():
    layers = (
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.GroupNorm(2, 4),
        nn.InstanceNorm2d(4),
        nn.Conv2d(4, 1, 1),
    )
    assert probed(wrap_module(nn.Sequential(*layers))).size_multiple == 1


@pytest.mark.parametrize(
    ("network", "multiple"),
    [
        (convolutions, 1),
        (lambda: strided(1), 2),
        (lambda: strided(2), 4),
        (lambda: strided(3), 8),
        (lambda: strided(4), 16),
        (lambda: strided(5), 32),
        (lambda: strided(6), 64),
        (lambda: Attention(7), 7),
        (lambda: Attention(8), 8),
        (lambda: nn.Sequential(nn.Conv2d(1, 1, 2, 2), Attention(7), nn.ConvTranspose2d(1, 1, 2, 2)), 14),
        (lambda: Placed(96), 96),
    ],
)
def test_the_size_multiple_is_found(network, multiple):
    module = network()
    loaded = probed(wrap_module(module))
    assert loaded.size_multiple == (loaded.spec.size_multiple or 1) == multiple
    x = images(1, 41, 50)
    padded = loaded.prepare(x)
    assert padded.shape[-2:] == (-(-41 // multiple) * multiple, -(-50 // multiple) * multiple)
    assert torch.equal(padded[..., :41, :50], x)
    with torch.no_grad():
        assert torch.equal(loaded(x), module(padded)[..., :41, :50])


def test_a_multiple_that_is_declared_is_tested_and_not_searched():
    module = strided(2)
    assert probed(wrap_module(module, size_multiple=8)).size_multiple == 8
    with pytest.raises(DenoiserError, match=r"shape \(1, 1, 37, 39\)"):
        probed(wrap_module(module, size_multiple=1))


def test_what_was_found_is_the_fingerprint_of_the_same_declared():
    module = strided(2)
    found, declared = probed(wrap_module(module)), wrap_module(module, size_multiple=4)
    assert found.sha256 == declared.sha256 != wrap_module(module).sha256
    assert probed(found) is found


class Clipping(Affine):
    def normalise(self, x):
        return super().normalise(x).clamp(0, 1)


def test_a_map_that_clips_is_refused_at_load():
    described = Denoiser("net", convolutions, Clipping(-1000.0, 2000.0))
    with pytest.raises(
        DenoiserError, match=r"denoiser net: its preprocessing cannot be undone.* off by 2,071 HU"
    ):
        load(described)
    with pytest.raises(DenoiserError, match="cannot be undone"):
        probed(wrap_module(convolutions(), preprocessing=Clipping(-1000.0, 2000.0)))


def test_an_inverse_in_floats_is_precise_enough():
    assert inverse_error(Affine(481.4542, 502.1851)) < 1e-3


def test_rounding_from_call_to_call_is_stated_and_not_refused():
    calls = iter(range(1000))
    loaded = wrap_module(Function(lambda x: x + 0.0007 * (next(calls) % 2)))
    assert loaded.repeatability == 0
    check_contract(loaded, images())
    assert loaded.repeatability == pytest.approx(0.0007, rel=0.2)
    calls = iter(range(1000))
    with pytest.raises(DenoiserError, match="not deterministic"):
        check_contract(wrap_module(Function(lambda x: x + 0.02 * (next(calls) % 2))), images())


def test_a_second_size_is_that_of_the_patches_of_models():
    shapes = []
    loaded = wrap_module(Function(lambda x: shapes.append(tuple(x.shape)) or x))
    check_contract(loaded, images(2, 40, 200))
    assert (1, 1, 128, 128) in shapes
    shapes.clear()
    check_contract(loaded, images(1, 128, 128))
    assert {shape[-2:] for shape in shapes} == {(128, 128)}


def quantised():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(8, 8)), {nn.Linear})


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (lambda: convolutions().to("meta"), r"no numbers yet: 0\.weight.* device meta"),
        (quantised, r"is quantised \(0"),
        (lambda: Function(lambda x: x.to_sparse()), "got a sparse tensor"),
        (
            lambda: Function(lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.quint8)),
            "got a quantised tensor",
        ),
        (lambda: Function(lambda x: sys.exit(0)), r"raised SystemExit on an input"),
        (
            lambda: Function(lambda x: functional.interpolate(x, scale_factor=2)),
            r"got shape \(1, 1, 74, 78\)",
        ),
    ],
    ids=["meta", "quantised", "sparse", "quantised output", "exit", "twice the size"],
)
def test_what_cannot_be_used_is_one_typed_error(module, text):
    with pytest.raises(DenoiserError, match=text):
        load(module())


def test_a_network_in_place_of_its_function_is_named():
    with pytest.raises(DenoiserError, match="got a Sequential itself; write build=lambda: network"):
        Denoiser("net", convolutions(), Affine(0.0, 1.0))
    with pytest.raises(DenoiserError, match=r"build\(\) failed: it called sys.exit"):
        load(Denoiser("net", lambda: sys.exit(0), Affine(0.0, 1.0)))


@pytest.mark.parametrize("model", ["chen2017", "yang2018"])
def test_the_test_of_the_denoisers_that_come_along_takes_a_fraction_of_a_second(model):
    spec, tag = PluginHost().denoiser(model)
    loaded = load_denoiser(spec, tag)
    before = time.process_time()
    assert probed(loaded) is loaded
    assert time.process_time() - before < 0.5
