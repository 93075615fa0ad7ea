"""What stands beside the samples: distances known in closed form for a linear layer, and in place for others."""

import dataclasses

import pytest
import torch
from torch import nn

from invkit.data.bank import PatchBank
from invkit.denoisers.loaded import wrap_module
from invkit.fiber.distance import activation_distance
from invkit.measures.comparison import comparison_figures
from invkit.measures.references import NOISE_DRAWS, References, equal_energy, from_prior, nearest
from invkit.parts.preset_file import vae_preset
from invkit.sampling.draw import Draws
from invkit.sampling.layer import ScaledLayer
from invkit.sampling.stack import Stack
from invkit.sampling.tiles import Tiling
from invkit.split.split import Split
from invkit.statistics.intervals import bootstrap
from invkit.vae.vae import VAE
from invkit.verdict.measures import REFERENCES

SIDE = 32


class Half(nn.Module):
    """Phi keeps the left half of the image and doubles it: linear, and noise in the right half is invisible."""

    def __init__(self):
        super().__init__()
        self.keep = nn.Identity()

    def forward(self, x):
        z = self.keep(2 * x[..., : SIDE // 2])
        return torch.cat([z / 2, torch.zeros_like(z)], dim=-1)


def seeded(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def case():
    denoiser = wrap_module(Half())
    x = 50 * seeded(1, 1, SIDE, SIDE)
    split = Split(denoiser, "keep")
    return denoiser, x, ScaledLayer.of(split, 4.0, 0.3, 4.0).at(x)


def draws(samples):
    empty = torch.zeros(1)
    return Draws(Stack.of([samples], len(samples)), *[empty] * 6)


def references(denoiser, x, **changes):
    base = {
        "reconstruction": x + 3,
        "images": 80 * seeded(5, 1, SIDE, SIDE, seed=1),
        "patients": (0, 0, 1, 1, 2),
        "prior": 80 * seeded(4, 1, SIDE, SIDE, seed=2),
        "bank": PatchBank.of(80 * seeded(40, 1, SIDE, SIDE, seed=3)),
        "seed": 0,
    }
    return References(denoiser=denoiser, x=x, **(base | changes))


def test_other_images_are_resampled_by_patient(case):
    denoiser, x, reference = case
    yards = references(denoiser, x)
    distances = yards.distances(draws(x + seeded(8, 1, SIDE, SIDE, seed=9)), reference, 0)
    assert [name for name, one in distances.items() if one.patients is not None] == ["random"]
    errors, _ = comparison_figures([distances], 0.5, yards, seed=3)
    squares = distances["random"].fiber_error.double().square()
    expected = bootstrap(squares, groups=[0, 0, 1, 1, 2], seed=3)
    assert errors["random"].low == pytest.approx(expected.low**0.5)
    assert errors["random"].high == pytest.approx(expected.high**0.5)
    assert errors["random"].low != pytest.approx(bootstrap(squares, seed=3).low ** 0.5)


def test_noise_of_equal_energy_is_as_far_as_a_linear_layer_says(case):
    denoiser, x, reference = case
    samples = x + torch.tensor([5.0, 10.0, 20.0, 40.0]).view(4, 1, 1, 1) * seeded(4, 1, SIDE, SIDE, seed=9)
    energy = (samples - x).flatten(1).square().mean(1).sqrt()
    found = references(denoiser, x).distances(draws(samples), reference, 0)
    for name in ("noise_white", "noise_residual"):
        assert len(found[name].fiber_error) == 4
    # E |2 n_left|^2 / n_left = 4 sigma^2, in units of the scale 4; a draw of 512 numbers keeps to it within a few %
    torch.testing.assert_close(found["noise_white"].fiber_error, energy.double() * 2 / 4, rtol=0.1, atol=0)
    # f keeps the left half alone: half of the energy
    torch.testing.assert_close(found["noise_white"].f_error, energy.double() / 2**0.5, rtol=0.1, atol=0)


def test_noise_has_exactly_the_energy_asked_for_and_the_spectrum_of_the_residual():
    energy = torch.tensor([1.0, 30.0])
    x = torch.zeros(1, 1, 64, 64)
    wave = torch.cos(2 * torch.pi * torch.arange(64) / 4).expand(
        1, 1, 64, 64
    )  # a quarter of a cycle per pixel
    for texture in (None, wave, torch.zeros_like(x)):
        noise = equal_energy(energy, x, texture, seed=1, image=0)
        torch.testing.assert_close(noise.square().mean((1, 2, 3)).sqrt(), energy, rtol=1e-5, atol=0)
    noise = equal_energy(energy, x, wave, seed=1, image=0)
    power = torch.fft.fft2(noise[1, 0]).abs().square()
    radius = torch.hypot(torch.fft.fftfreq(64)[:, None], torch.fft.fftfreq(64)[None])
    assert power[(radius - 0.25).abs() < 0.03].sum() > 0.99 * power.sum()
    assert not torch.equal(noise[0] * 30, noise[1])


def test_a_bank_that_holds_x_is_at_no_distance(case):
    _, x, reference = case
    others = 80 * seeded(60, 1, SIDE, SIDE, seed=3)
    with_x = PatchBank.of(torch.cat([others[:33], x, others[33:]]))
    patch, distance = nearest(with_x, reference, 8)
    assert torch.equal(patch, x)
    assert distance.item() == 0


def test_nearest_is_an_upper_bound_and_exact_where_all_are_compared(case):
    _, x, reference = case
    images = x + 30 * seeded(60, 1, SIDE, SIDE, seed=4)
    images[21, ..., : SIDE // 2] = x[0, ..., : SIDE // 2]  # in the fiber
    images[21, ..., SIDE // 2 :] += 900  # but the least like x
    bank = PatchBank.of(images)
    true = activation_distance(reference.split.phi(images), reference.z).min().item() / reference.scale
    assert true == 0
    assert nearest(bank, reference, 60)[1].item() == 0
    assert nearest(bank, reference, 8)[1].item() > 0


def test_every_rung_is_what_phi_and_f_say(case):
    denoiser, x, reference = case
    samples = x + seeded(NOISE_DRAWS + 4, 1, SIDE, SIDE, seed=5)
    beside = references(denoiser, x)
    found = beside.distances(draws(samples), reference, 0)
    assert set(found) | {"samples", "input", "const"} == set(REFERENCES)
    for name, images in (
        ("vae", beside.reconstruction),
        ("random", beside.images),
        ("unconditional", beside.prior),
    ):
        distance = activation_distance(reference.split.phi(images), reference.z) / reference.scale
        torch.testing.assert_close(found[name].fiber_error, distance)
        change = (denoiser(images) - denoiser(x)).double().flatten(1).square().mean(1).sqrt()
        torch.testing.assert_close(found[name].f_error, change, rtol=1e-6, atol=0)
    assert found["vae"].fiber_error.item() == pytest.approx(2 * 3 / 4)
    assert found["noise_white"].fiber_error.shape == (NOISE_DRAWS,)
    # f(x) keeps the left half, and noise like x - f(x), which is the right half alone, is spread over the image
    assert 0 < found["training_free"].fiber_error.mean() < found["random"].fiber_error.mean()


def test_f_is_computed_once_for_what_no_layer_changes(case, monkeypatch):
    denoiser, x, reference = case
    beside = references(denoiser, x)
    one = draws(x + seeded(2, 1, SIDE, SIDE, seed=5))
    f, both = [], []
    call, phi_and_f = type(denoiser).__call__, Split.phi_and_f
    monkeypatch.setattr(type(denoiser), "__call__", lambda self, image: f.append(1) or call(self, image))
    monkeypatch.setattr(Split, "phi_and_f", lambda self, image: both.append(1) or phi_and_f(self, image))
    first = beside.distances(one, reference, 0)
    count = sum(len(found.f_error) for found in first.values())
    # All but the nearest patch, whose Phi was known.
    assert (len(f), len(both)) == (1, count - 1)
    again = beside.distances(one, reference, 0)
    # Again only the nearest patch and two kinds of noise of two draws each.
    assert (len(f), len(both)) == (2, count - 1 + 2 * 2)
    for name, found in first.items():
        assert torch.equal(found.f_error, again[name].f_error)
        assert torch.equal(found.fiber_error, again[name].fiber_error)


def test_high_dose_images_of_the_prior_get_fresh_noise(case):
    denoiser, x, reference = case
    beside = references(denoiser, x)
    one = draws(x + seeded(2, 1, SIDE, SIDE, seed=5))
    shifted = beside.distances(one, reference, 0, lambda images, _: images + 7)
    wanted = activation_distance(reference.split.phi(beside.prior + 7), reference.z) / reference.scale
    torch.testing.assert_close(shifted["unconditional"].fiber_error, wanted)


def test_larger_images_are_compared_with_fewer_patches(case):
    denoiser, x, _ = case
    bank = PatchBank(torch.zeros(100, 1), lambda _: x)
    many = dataclasses.replace(references(denoiser, x), bank=bank)
    assert many.compared == 48
    assert dataclasses.replace(many, x=torch.zeros(1, 1, 256, 128)).compared == 24
    assert dataclasses.replace(many, x=torch.zeros(1, 1, 512, 512)).compared == 8
    assert dataclasses.replace(many, bank=PatchBank.of(x)).compared == 1


def test_draws_of_the_prior_are_decoded_normal_codes():
    vae = VAE(vae_preset("tiny")).eval()
    one = from_prior(vae, (vae.patch, vae.patch), seed=0, count=3)
    assert one.shape == (3, 1, vae.patch, vae.patch)
    more = from_prior(vae, (vae.patch, vae.patch), seed=0, count=5)
    torch.testing.assert_close(more[:3], one, rtol=1e-4, atol=1e-2)
    assert not torch.equal(from_prior(vae, (vae.patch, vae.patch), seed=1, count=3), one)
    wide = from_prior(vae, (vae.patch, 2 * vae.patch), seed=0, count=2)
    assert wide.shape == (2, 1, vae.patch, 2 * vae.patch)
    # where no other tile reaches, the left one is the same draw as that of the small image
    alone = Tiling(vae.patch, 2 * vae.patch, vae.patch).corners[1][1]
    assert alone > 0
    torch.testing.assert_close(wide[..., :alone], one[:2, ..., :alone], rtol=1e-4, atol=1e-2)
