"""LoadedDenoiser against plain torch, and every way to break the contract (faults 21, 22, 24, 25)."""

import warnings

import pytest
import torch
from small_network import Function, convolutions
from torch import nn
from torch.nn import functional

from invkit.denoisers.contract import check_contract
from invkit.denoisers.loaded import LoadedDenoiser, load_denoiser, wrap_module
from invkit.denoisers.spec import Affine, Denoiser
from invkit.errors import DenoiserError, ImageError, InvkitError, UnknownNameError, UsageError
from invkit.split.split import Split

SCALE = Affine(mean=50.0, std=400.0)


def images(n: int = 2, height: int = 16, width: int = 20) -> torch.Tensor:
    return 100 * torch.randn(n, 1, height, width, generator=torch.Generator().manual_seed(3))


def spec(build=convolutions, **changes) -> Denoiser:
    return Denoiser(**{"name": "net", "build": build, "preprocessing": SCALE, **changes})


def test_hu_in_hu_out_is_the_network_between_the_two_maps():
    loaded = load_denoiser(spec(), untrained_seed=1)
    x = images()
    expected = loaded.network((x - 50.0) / 400.0) * 400.0 + 50.0
    assert torch.equal(loaded(x), expected)
    assert loaded.weights_tag == "untrained-1"
    assert not loaded.network.training
    assert all(not p.requires_grad for p in loaded.network.parameters())
    assert loaded.device == torch.device("cpu")


def test_the_seed_decides_the_untrained_network_and_no_global_state_changes():
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    first, second, other = (load_denoiser(spec(), untrained_seed=s) for s in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert first.sha256 == second.sha256 != other.sha256
    assert load_denoiser(spec()).weights_tag == "built"
    assert load_denoiser(spec()).sha256 == load_denoiser(spec(), untrained_seed=0).sha256


def test_fingerprint_tells_apart_preprocessing_structure_and_hidden_attributes():
    class Shrink(nn.Module):
        def __init__(self, tau):
            super().__init__()
            self.tau = tau

        def forward(self, x):
            return functional.softshrink(x, self.tau)

    class Mask(nn.Module):
        def __init__(self, value):
            super().__init__()
            self.mask = torch.full((1,), value)

        def forward(self, x):
            return x * self.mask

    networks = [
        wrap_module(convolutions()[:1]),
        wrap_module(Shrink(1.0)),
        wrap_module(Shrink(2.0)),
        wrap_module(Shrink(1.0), preprocessing=SCALE),
        wrap_module(Shrink(1.0), size_multiple=4),
        wrap_module(Mask(1.0)),
        wrap_module(Mask(2.0)),
        wrap_module(nn.Conv2d(1, 1, 3, padding=1, padding_mode="zeros")),
        wrap_module(nn.LeakyReLU(0.1)),
        wrap_module(nn.LeakyReLU(0.2)),
    ]
    assert len({network.sha256 for network in networks}) == len(networks)
    assert wrap_module(Shrink(1.0)).sha256 == networks[1].sha256


@pytest.mark.parametrize(
    ("height", "width", "multiple"), [(16, 16, 8), (33, 65, 8), (5, 3, 16), (1, 7, 4), (9, 1, 1)]
)
def test_any_size_is_padded_and_cropped(height, width, multiple):
    loaded = wrap_module(nn.Identity(), size_multiple=multiple)
    x = images(1, height, width)
    prepared = loaded.prepare(x)
    assert all(side % multiple == 0 for side in prepared.shape[-2:])
    assert torch.equal(prepared[..., :height, :width], x)
    assert torch.equal(loaded(x), x)


def test_padding_is_a_reflection():
    loaded = wrap_module(nn.Identity(), size_multiple=8)
    x = images(1, 13, 14)
    assert torch.equal(loaded.prepare(x), functional.pad(x, (0, 2, 0, 3), mode="reflect"))


def test_a_users_module_is_left_as_it_was_and_runs_in_eval_mode():
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, 1, 1)
    )
    module.train()
    module[1].eval()
    module[0].weight.requires_grad_(False)
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    loaded = wrap_module(module)
    x = images()
    assert torch.equal(loaded(x), loaded(x))
    assert module.training
    assert not module[1].training
    assert module[2].training
    assert not module[0].weight.requires_grad
    assert module[3].weight.requires_grad
    assert all(torch.equal(state[name], tensor) for name, tensor in module.state_dict().items())
    check_contract(loaded, x)


def test_gradients_reach_the_image_but_not_the_parameters():
    module = convolutions()
    loaded = wrap_module(module)
    x = images().requires_grad_()
    loaded(x).square().sum().backward()
    expected = torch.autograd.grad(module(x).square().sum(), x)[0]
    assert torch.equal(x.grad, expected)
    assert all(p.grad is None and p.requires_grad for p in module.parameters())


def test_inference_mode_double_precision_and_autocast():
    module = convolutions()
    loaded = wrap_module(module)
    x = images()
    expected = module(x).detach()
    with torch.inference_mode():
        assert torch.equal(loaded(x), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loaded(x), expected)
    doubled = wrap_module(convolutions().double())
    assert doubled(x).dtype == torch.float32
    assert doubled.prepare(x).dtype == torch.float64


@pytest.mark.parametrize(
    "wrap", [nn.DataParallel, torch.compile, lambda m: nn.DataParallel(nn.DataParallel(m))]
)
def test_wrappers_are_taken_off(wrap):
    module = convolutions()
    loaded = wrap_module(wrap(module))
    assert loaded.network is module
    assert torch.equal(loaded(images()), module(images()))


def test_script_modules_are_refused_with_the_reason():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted, traced = torch.jit.script(convolutions()), torch.jit.trace(convolutions(), images())
    for module in (scripted, traced):
        with pytest.raises(DenoiserError, match="TorchScript does not support hooks"):
            wrap_module(module)


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (lambda x: x, "torch.nn.Module, got function"),
        (nn.LazyConv2d(3, 1), "without a shape yet"),
        (None, "got NoneType"),
    ],
)
def test_what_is_no_usable_module_is_refused(module, text):
    with pytest.raises(DenoiserError, match=text):
        wrap_module(module)


def test_parameters_that_are_not_finite_are_named():
    module = convolutions()
    with torch.no_grad():
        module[2].bias.fill_(float("nan"))
    with pytest.raises(DenoiserError, match=r"2\.bias"):
        wrap_module(module)


def boom(x):
    raise KeyError("no such thing")


def noisy(x):
    return x + torch.rand_like(x)


def nan_where_large(x):
    return torch.where(x > x.mean(), torch.nan, x)


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (boom, r"raised KeyError on an input of shape \(2, 1, 16, 20\)"),
        (lambda x: x[..., 1:], r"shape \(2, 1, 16, 20\).*got shape \(2, 1, 16, 19\)"),
        (lambda x: x[:, 0], r"got shape \(2, 16, 20\)"),
        (lambda x: x.repeat(1, 3, 1, 1), r"got shape \(2, 3, 16, 20\)"),
        (lambda x: (x, x), "one tensor of shape .* got tuple"),
        (lambda x: {"out": x}, "got dict"),
        (lambda x: None, "got NoneType"),
        (lambda x: x.long(), "int64"),
        (lambda x: x.to("meta"), "on meta"),
        (lambda x: x[..., :16], r"input of shape|got shape"),
        (noisy, "not deterministic"),
        (nan_where_large, "not finite"),
    ],
)
def test_a_broken_contract_is_one_typed_error_with_names_and_shapes(function, text):
    loaded = wrap_module(Function(function), name="broken")
    with pytest.raises(DenoiserError, match=text) as caught:
        check_contract(loaded, images())
    assert "broken" in str(caught.value)
    assert isinstance(caught.value, InvkitError)


def test_a_network_for_one_size_only_is_found():
    module = nn.Sequential(nn.Flatten(), nn.Linear(320, 320), nn.Unflatten(1, (1, 16, 20)))
    loaded = wrap_module(module)
    assert loaded(images()).shape == (2, 1, 16, 20)
    with pytest.raises(DenoiserError, match=r"shape \(1, 1, 128, 128\)"):
        check_contract(loaded, images())


def test_state_kept_between_calls_is_found():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            return x + self.calls

    with pytest.raises(DenoiserError, match="two calls on one image"):
        check_contract(wrap_module(Counting()), images())


def test_a_network_that_changes_its_input_is_neutralised():
    loaded = wrap_module(Function(lambda x: x.mul_(0.5)))
    x = images()
    kept = x.clone()
    assert torch.equal(loaded(x), 0.5 * kept)
    assert torch.equal(x, kept)
    check_contract(loaded, x)


def test_a_preprocessing_that_changes_its_input_is_neutralised():
    class InPlace(Affine):
        def normalise(self, x):
            return x.sub_(self.mean).div_(self.std)

    x = images()
    kept = x.clone()
    wrap_module(convolutions(), preprocessing=InPlace(1.0, 2.0))(x)
    assert torch.equal(x, kept)


@pytest.mark.parametrize("shape", [(16, 16), (1, 16, 16), (1, 3, 16, 16), (0, 1, 8, 8)])
def test_what_is_no_batch_of_images_is_refused(shape):
    with pytest.raises(ImageError, match=r"\(B, 1, H, W\)"):
        wrap_module(convolutions())(torch.zeros(shape))
    with pytest.raises(ImageError, match="int64"):
        wrap_module(convolutions())(torch.zeros(1, 1, 8, 8, dtype=torch.int64))


def test_build_failures_are_typed():
    def broken():
        raise ImportError("no module named secret")

    with pytest.raises(DenoiserError, match=r"build\(\) failed: ImportError: no module named secret"):
        load_denoiser(spec(broken))
    with pytest.raises(DenoiserError, match="got str"):
        load_denoiser(spec(lambda: "network"))


def test_tags():
    with pytest.raises(UnknownNameError, match="no weights 'paper'; there are: none"):
        load_denoiser(spec(), "paper")
    with pytest.raises(UsageError, match="not both"):
        load_denoiser(spec(), "paper", untrained_seed=1)


def test_the_denoiser_carries_its_description():
    loaded = load_denoiser(spec())
    assert isinstance(loaded, LoadedDenoiser)
    assert (loaded.name, loaded.spec.name, loaded.preprocessing) == ("net", "net", SCALE)


class Differentiates(nn.Module):
    """One step down the gradient of an energy, as unrolled networks take it."""

    def __init__(self, own):
        super().__init__()
        self.conv, self.own = nn.Conv2d(1, 1, 3, padding=1), own

    def forward(self, x):
        with torch.set_grad_enabled(self.own):
            x = x.detach().requires_grad_() if self.own else x
            return x - 0.1 * torch.autograd.grad(self.conv(x).square().sum(), x)[0]


def test_a_network_that_differentiates_is_told_how_to():
    x = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with pytest.raises(
        DenoiserError, match=r"test_loaded.py, line \d+\). It differentiates in its forward pass"
    ):
        wrap_module(Differentiates(own=False))(x)
    f = wrap_module(Differentiates(own=True))
    assert f(x).shape == x.shape
    with pytest.raises(DenoiserError, match="cannot be split at a layer inside of what it differentiates"):
        Split(f, "conv").check(x)
