"""Draws against direct computation, with parts so simple that every figure is known."""

import numpy as np
import pytest
import torch
from torch import nn

from invkit.denoisers.loaded import wrap_module
from invkit.flow.cinn import CINN
from invkit.flow.config import CinnConfig
from invkit.parts.preset_file import vae_preset
from invkit.sampling import draw as sampler
from invkit.sampling.base import LayerModel
from invkit.sampling.draw import draw
from invkit.sampling.draws import invariances
from invkit.sampling.layer import ScaledLayer
from invkit.sampling.tiles import Tiling
from invkit.split.split import Split
from invkit.vae.vae import VAE, Posterior

PATCH, D = 16, 5
SCALE = 0.7


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class LinearVae:
    """E takes the mean of the first D pixels' rows, D is one matrix."""

    patch, d = PATCH, D

    def __init__(self) -> None:
        self.matrix = torch.randn(D, PATCH * PATCH, generator=seeded(1)) * 20
        self.encoded: list[int] = []

    def encode(self, x: torch.Tensor) -> Posterior:
        self.encoded.append(len(x))
        mean = x[:, 0, :D].mean(-1) / 100
        return Posterior(mean, torch.full_like(mean, -3.0))

    def decode(self, z_bar: torch.Tensor) -> torch.Tensor:
        return (z_bar @ self.matrix).view(-1, 1, PATCH, PATCH)


class ShiftFlow:
    """v = z_bar - mean of the condition."""

    def __init__(self) -> None:
        self.embedded: list[tuple[int, ...]] = []

    def embed(self, condition: torch.Tensor) -> torch.Tensor:
        self.embedded.append(tuple(condition.shape))
        return condition

    def inverse(self, v: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        return v + h[..., :D]

    def __call__(self, z_bar: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return z_bar - h[..., :D], torch.zeros(len(z_bar))


class MeanRegressor:
    """g takes the mean over channels."""

    condition_stages = 0

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def __call__(self, z: torch.Tensor, size: tuple[int, int], **_: object) -> torch.Tensor:
        self.calls.append(size)
        return z.mean(1, keepdim=True)


def denoiser():
    torch_state = torch.random.get_rng_state()
    torch.manual_seed(5)
    network = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 1, 3, padding=1))
    torch.random.set_rng_state(torch_state)
    return wrap_module(network)


F = denoiser()


def model(layer: str = "0") -> LayerModel:
    return LayerModel(
        split=Split(F, layer),
        regressor=MeanRegressor(),
        vae=LinearVae(),
        cinn=ShiftFlow(),
        meta={},
        sha256="",
        nll_rows=torch.zeros(1),
        patients=torch.zeros(1),
    )


def image(height: int = 20, width: int = 40) -> torch.Tensor:
    return torch.randn(1, 1, height, width, generator=seeded(2)) * 100


def drawn(x: torch.Tensor, layer: str = "0", *, samples: int = 30, seed: int = 3, index: int = 1, **options):
    parts = options.pop("parts", None) or model(layer)
    measured = options.pop("target", None) or target(parts.split, x)
    given = parts.prepare(parts.split.phi(x), x.shape[-2:])
    return draw(given, measured, samples=samples, seed=seed, image=index, **options)


def target(split, x: torch.Tensor, scale: float = SCALE):
    return ScaledLayer.of(split, scale, 0.3, scale).at(x)


def rms(difference: torch.Tensor) -> np.ndarray:
    return np.sqrt((difference.detach().double().numpy() ** 2).reshape(len(difference), -1).mean(axis=1))


@pytest.mark.parametrize("size", [(16, 16), (20, 40), (9, 30)])
def test_samples_are_the_decoded_codes_of_v_given_z(size):
    x = image(*size)
    parts = model()
    tiling = Tiling(*size, PATCH)
    estimate = parts.split.phi(x).mean(1, keepdim=True)
    codes = tiling.cut(estimate)[0][:, 0, :D].mean(-1) / 100
    centre = (codes @ parts.vae.matrix).view(1, len(tiling), 1, PATCH, PATCH)
    samples = drawn(x).samples
    assert samples.shape == (30, 1, *size)
    for k in (0, 7, 24, 25, 29):
        v = torch.cat([invariances(3, 1, tile, [k], D) for tile in range(len(tiling))])
        patches = ((v + codes) @ parts.vae.matrix).view(1, len(tiling), 1, PATCH, PATCH)
        torch.testing.assert_close(samples[k], tiling.blend_draws(patches, centre)[0], rtol=1e-5, atol=1e-3)


def test_mean_and_deviation_are_those_of_the_samples_in_float64():
    x = image()
    found = drawn(x, samples=60)
    images = found.samples.double().numpy()
    np.testing.assert_allclose(found.mean.numpy(), images.mean(axis=0), rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(found.std.numpy(), images.std(axis=0, ddof=1), rtol=1e-6)
    assert found.mean.shape == found.std.shape == found.f_mean.shape == found.f_std.shape == (1, 20, 40)
    outputs = F(found.samples).double().numpy()
    np.testing.assert_allclose(found.f_mean.numpy(), outputs.mean(axis=0), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(found.f_std.numpy(), outputs.std(axis=0, ddof=1), rtol=1e-4)


def test_errors_are_those_of_each_sample():
    x = image()
    found = drawn(x)
    split = Split(F, "0")
    difference = split.phi(found.samples) - split.phi(x)
    np.testing.assert_allclose(found.fiber_error.numpy(), rms(difference) / SCALE, rtol=1e-5)
    np.testing.assert_allclose(found.f_error.numpy(), rms(F(found.samples) - F(x)), rtol=1e-5)
    assert found.fiber_error.shape == found.f_error.shape == (30,)


def test_the_layer_measured_on_need_not_be_the_layer_sampled_from():
    """The controls are measured on the layer under test."""
    x = image()
    split = Split(F, "0")
    found = drawn(x, "input", target=target(split, x, 2.0))
    np.testing.assert_allclose(
        found.fiber_error.numpy(), rms(split.phi(found.samples) - split.phi(x)) / 2, rtol=1e-5
    )
    assert not torch.equal(found.samples, drawn(x).samples)


def test_a_set_of_layers_is_measured_as_one():
    x = image(16, 16)
    both = Split(F, "0+1")
    parts = model()
    found = draw(
        parts.prepare(parts.split.phi(x), (16, 16)), target(both, x, 1.0), samples=3, seed=0, image=0
    )
    first, second = ((a - b).flatten(1) for a, b in zip(both.phi(found.samples), both.phi(x), strict=True))
    np.testing.assert_allclose(found.fiber_error.numpy(), rms(torch.cat([first, second], 1)), rtol=1e-5)


def test_sample_k_does_not_depend_on_how_many_there_are():
    x = image()
    few, many = drawn(x, samples=30), drawn(x, samples=250)
    assert torch.equal(many.samples[:30], few.samples)
    torch.testing.assert_close(many.fiber_error[:30], few.fiber_error, rtol=1e-6, atol=0)
    torch.testing.assert_close(many.f_error[:30], few.f_error, rtol=1e-6, atol=0)


@pytest.mark.parametrize("samples", [2, 7, 26])
def test_sample_k_of_real_networks_is_bit_equal_whatever_their_number(samples):
    torch.manual_seed(0)
    vae = VAE(vae_preset("tiny")).eval()
    cinn = CINN(CinnConfig(d=vae.d, blocks=2, hidden=16, context=4), (2 * vae.d,)).eval()
    parts = LayerModel(
        split=Split(F, "input"),
        regressor=MeanRegressor(),
        vae=vae,
        cinn=cinn,
        meta={},
        sha256="",
        nll_rows=torch.zeros(1),
        patients=torch.zeros(1),
    )
    x = image(32, 50)
    whole = drawn(x, parts=parts, samples=60)
    part = drawn(x, parts=parts, samples=samples)
    assert torch.equal(part.samples, whole.samples[:samples])
    assert torch.isfinite(whole.samples).all()
    assert not whole.samples.requires_grad


def test_seed_and_image_decide_the_samples():
    x = image()
    base = drawn(x).samples
    assert torch.equal(base, drawn(x).samples)
    assert not torch.equal(base, drawn(x, seed=4).samples)
    assert not torch.equal(base, drawn(x, index=0).samples)


def test_the_condition_is_made_and_embedded_once_for_each_image():
    parts = model()
    drawn(image(), parts=parts, samples=101)
    tiles = len(Tiling(20, 40, PATCH))
    assert tiles > 1
    assert parts.regressor.calls == [(20, 40)]
    assert parts.vae.encoded == [tiles]
    assert parts.cinn.embedded == [(tiles, 2 * D)]


def test_the_condition_is_mean_and_log_variance_of_the_estimate():
    parts = model()
    patches = torch.randn(2, 1, PATCH, PATCH, generator=seeded(0))
    condition = parts.condition(patches)
    assert torch.equal(condition[:, :D], parts.vae.encode(patches).mean)
    assert torch.equal(condition[:, D:], torch.full((2, D), -3.0))


def test_inverting_the_invariance_of_an_image_gives_its_code():
    parts = model()
    patches = torch.randn(2, 1, PATCH, PATCH, generator=seeded(0)) * 100
    condition = parts.condition(patches.flip(0))
    v = parts.invariance_of(patches, condition)
    torch.testing.assert_close(parts.codes(condition, v[None])[0], parts.vae.encode(patches).mean)


def test_phi_sees_perturbed_samples_and_nothing_else_does():
    x = image()
    plain = drawn(x)
    seen: list[int] = []

    def add(images: torch.Tensor, indices) -> torch.Tensor:
        assert len(images) == len(indices)
        seen.extend(indices)
        return images + 10.0 * torch.tensor(list(indices)).view(-1, 1, 1, 1)

    noisy = drawn(x, perturb=add)
    assert seen == list(range(30))
    for name in ("samples", "mean", "std", "f_mean", "f_std", "f_error"):
        assert torch.equal(getattr(noisy, name), getattr(plain, name))
    split = Split(F, "0")
    moved = plain.samples + 10.0 * torch.arange(30.0).view(-1, 1, 1, 1)
    np.testing.assert_allclose(
        noisy.fiber_error.numpy(), rms(split.phi(moved) - split.phi(x)) / SCALE, rtol=1e-5
    )


def test_large_images_go_through_the_network_in_parts(monkeypatch):
    x = image()
    whole = drawn(x)
    monkeypatch.setattr(sampler, "ON_CPU", 20 * 40 * 7)
    seen: list[list[int]] = []

    def note(images: torch.Tensor, indices) -> torch.Tensor:
        seen.append(list(indices))
        return images

    parts = drawn(x, perturb=note)
    assert [len(indices) for indices in seen] == [7, 7, 7, 4, 5]
    assert [index for indices in seen for index in indices] == list(range(30))
    for name in ("samples", "mean", "std", "f_mean", "f_std", "fiber_error", "f_error"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), rtol=1e-5, atol=1e-5)


def test_one_image_larger_than_a_part_still_goes_through(monkeypatch):
    monkeypatch.setattr(sampler, "ON_CPU", 1)
    assert torch.isfinite(drawn(image(), samples=2).f_error).all()


def test_progress_counts_the_samples_done():
    counts: list[int] = []
    drawn(image(16, 16), samples=60, progress=counts.append)
    assert counts == [25, 50, 60]


def test_the_image_under_test_is_left_alone():
    x = image()
    before = x.clone()
    found = drawn(x)
    assert torch.equal(x, before)
    assert found.samples.dtype == found.mean.dtype == found.std.dtype == torch.float32
