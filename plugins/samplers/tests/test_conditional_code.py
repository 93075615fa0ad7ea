"""The VAE that is given f(x): its start in closed form, its task, its figures and its file."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from invkit_samplers.conditional.code import ConditionalConfig, ConditionalVae
from invkit_samplers.conditional.fit import (
    ConditionalTask,
    GivenPatches,
    conditional_figures,
    given_patches,
)
from invkit_samplers.conditional.train import (
    ConditionalVaeRequest,
    ConditionalVaeTraining,
    load_conditional,
)
from pydantic import ValidationError
from small_workshop import small_workshop

import invkit
from invkit import ArtifactError, ImageError, artifacts
from invkit.data.patches import PatchBatch
from invkit.samplers import Shard, generator

WHOLE = Shard(0, 1)
SMALL = ConditionalConfig.tiny().model_copy(update={"bf16": False})


class Pairs:
    """Noisy patches of smooth blobs; y = x + 100, so that domains are told apart."""

    dose = 0.25

    def __init__(self, seed=0, size=32):
        self.seed, self.size = seed, size
        self.slices = SimpleNamespace(fingerprint=f"blobs{seed}", description="blobs")

    def batch(self, step, n, shard=None):
        rng = generator(self.seed, "blobs", step)
        centre = torch.rand(n, 2, 1, 1, generator=rng) * self.size
        grid = torch.arange(float(self.size))
        square = (grid[None, :, None] - centre[:, :1, 0]) ** 2 + (grid[None, None, :] - centre[:, 1:, 0]) ** 2
        x = (400 * torch.exp(-square / 60) - 200)[:, None]
        x = x + 20 * torch.randn(x.shape, generator=rng)
        return PatchBatch(x, x + 100, None, torch.zeros(n), torch.zeros(n, dtype=torch.long))


def smooth(x):
    """Return images after a box of 5 x 5 pixels: a denoiser."""
    return torch.nn.functional.avg_pool2d(x, 5, stride=1, padding=2, count_include_pad=False)


def built(config=SMALL, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ConditionalVae(config)


def table(count=64, domain="low", denoise=smooth, seed=0):
    return given_patches(denoise, Pairs(seed), domain, count)


def test_it_starts_at_probabilistic_pca_of_the_residual():
    """Against eigenvalues in float64: reconstruction, posterior variance and the evidence (Tipping and Bishop 1999)."""
    d, side, n = 6, 8, 400
    config = SMALL.model_copy(update={"patch": side, "d": d, "pool": 1, "stem": 2})
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(10, side * side)) * np.linspace(60, 5, 10)[:, None]
    residual = 30 + rng.normal(size=(n, 10)) @ mixing + 3 * rng.normal(size=(n, side * side))
    f_x = torch.tensor(rng.normal(0, 200, (n, 1, side, side)), dtype=torch.float32)
    x = f_x + torch.tensor(residual, dtype=torch.float32).view(n, 1, side, side)
    vae = built(config)
    vae.start(x, f_x, torch.Generator().manual_seed(0))
    mean = residual.mean(0)
    values, vectors = np.linalg.eigh(np.cov(residual.T, bias=True))
    values, vectors = values[::-1], vectors[:, ::-1]
    noise = values[d:].mean()
    keep = vectors[:, :d] * (1 - noise / values[:d]) @ vectors[:, :d].T
    expected = f_x.double().view(n, -1).numpy() + mean + (residual - mean) @ keep
    found = vae.reconstruct(x, f_x).detach().double().view(n, -1).numpy()
    assert np.abs(found - expected).max() < 0.05  # of residuals of 190 HU
    posterior = vae.encode(x, f_x)
    torch.testing.assert_close(
        posterior.log_var[0].exp().double(), torch.tensor(noise / values[:d].copy()), rtol=2e-3, atol=1e-6
    )
    assert float(posterior.kl().mean().detach()) == pytest.approx(
        0.5 * np.log(values[:d] / noise).sum(), rel=2e-3
    )
    assert float(vae.unit) == pytest.approx(math.sqrt((residual**2).mean()), rel=1e-3)


def test_what_f_says_already_costs_no_code():
    """Two patches with the same residual have the same code at the start, whatever f(x), and are decoded around their own."""
    vae, given = built(), table()
    x, f_x = given.rows(slice(None))
    vae.start(given.x, given.f_x, torch.Generator().manual_seed(0))
    other = f_x.flip(0)
    codes = [vae.encode(base + x - f_x, base).mean for base in (f_x, other)]
    torch.testing.assert_close(*codes, atol=1e-3, rtol=0)
    decoded = [vae.decode(codes[0], base) - base for base in (f_x, other)]
    torch.testing.assert_close(*decoded, atol=1e-2, rtol=0)


@pytest.mark.parametrize(
    "changes", [{}, {"patch": 48, "d": 5}, {"encoder_blocks": (0, 0), "decoder_blocks": (0, 2)}, {"pool": 1}]
)
def test_gradients_reach_every_parameter_and_both_images(changes):
    config = SMALL.model_copy(update=changes)
    vae = built(config)
    x, f_x = (torch.randn(3, 1, config.patch, config.patch) * 100 for _ in range(2))
    posterior = vae.encode(x, f_x.requires_grad_())
    assert posterior.mean.shape == posterior.log_var.shape == (3, config.d)
    decoded = vae.decode(posterior.sample(torch.Generator().manual_seed(0)), f_x.detach())
    assert decoded.shape == x.shape
    (decoded.square().mean() + posterior.kl().mean()).backward()
    assert all(parameter.grad is not None for parameter in vae.parameters())
    pixels = config.stem**2
    for first in (vae.encoder.stem[1], vae.decoder.view[1]):
        assert first.weight.grad[:, pixels:].abs().max() > 0
    assert f_x.grad.abs().max() > 0


def test_wrong_shapes_are_refused_with_both_sizes():
    vae = built()
    patch = torch.zeros(2, 1, 32, 32)
    with pytest.raises(ImageError, match=r"1, 32, 32.*got \(2, 1, 32, 32\) and \(1, 1, 32, 32\)"):
        vae.encode(patch, patch[:1])
    with pytest.raises(ImageError, match=r"\(B, 16\).*got \(2, 3\)"):
        vae.decode(torch.zeros(2, 3), patch)


@pytest.mark.parametrize(
    "changes", [{"patch": 30}, {"pool": 16}, {"patches": 16}, {"decoder_blocks": (-1, 0)}, {"depth": 3}]
)
def test_configs_that_cannot_be_are_refused(changes):
    with pytest.raises(ValidationError):
        ConditionalConfig(**{**SMALL.model_dump(), **changes})


def test_the_table_holds_f_of_the_low_dose_patch_in_both_domains():
    low, high = table(40), table(40, "high")
    assert len(low) == len(high) == 40
    pairs = [Pairs().batch(step, 32) for step in range(2)]
    x = torch.cat([pair.x for pair in pairs])[:40]
    torch.testing.assert_close(low.x.float(), x, atol=0.3, rtol=0)
    torch.testing.assert_close(low.f_x.float(), smooth(x), atol=0.3, rtol=0)
    torch.testing.assert_close(high.x.float(), x + 100, atol=0.3, rtol=0)
    assert torch.equal(high.f_x, low.f_x)


def task(seed=3):
    return ConditionalTask(built(), table(), table(seed=1), seed=seed)


@pytest.mark.parametrize("step", [0, 7])
def test_loss_is_pure(step):
    subject = task()
    losses = []
    for _ in range(2):
        losses.append(subject.loss("main", step, WHOLE)[0].detach())
        subject.loss("main", step + 1, WHOLE)
        torch.rand(5)
    assert torch.equal(*losses)
    assert not torch.equal(losses[0], subject.loss("main", step + 2, WHOLE)[0])


def test_training_lowers_the_loss_and_does_not_undo_the_start():
    subject = task()
    optimizer = subject.optimizers["main"]
    held_out = [subject.evaluate(0)["rmse_hu"]]
    losses = []
    for step in range(20):
        for group in optimizer.param_groups:
            group["lr"] = subject.learning_rate("main", step)
        optimizer.zero_grad()
        loss, figures = subject.loss("main", step, WHOLE)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    held_out.append(subject.evaluate(20)["rmse_hu"])
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert held_out[1] < 1.05 * held_out[0]
    assert float(figures["rmse_hu"]) > 0


@pytest.mark.parametrize("offset", [0.0, 15.0])
def test_a_network_that_changes_nothing_leaves_nothing_to_code(offset):
    given = table(denoise=lambda x: x - offset)
    vae = built()
    vae.start(given.x, given.f_x, torch.Generator().manual_seed(0))
    x, f_x = given.rows(slice(None))
    found = vae.reconstruct(x, f_x)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found, x, atol=0.5, rtol=0)
    loss, _ = ConditionalTask(vae, given, given, seed=0).loss("main", 0, WHOLE)
    assert torch.isfinite(loss)


class Smooth(torch.nn.Module):
    """That denoiser as a network."""

    def forward(self, x):
        return smooth(x)


class Request(ConditionalVaeRequest):
    """A request whose patches are blobs."""

    def sampler(self, part):
        return Pairs(0 if part == "train" else 1)


def test_a_trained_one_is_stored_with_what_it_keeps(place):
    here, calls = small_workshop(place), []
    here = replace(here, progress=calls.append)
    request = Request("low", here.slices, SMALL, denoiser=invkit.load(Smooth()))
    trained = here.code(request, ConditionalVaeTraining, load_conditional, what="VAE")
    assert {call.stage.rpartition(": ")[2] for call in calls} >= {"patches, train", "patches, validation"}
    figures = trained.meta["held_out"]
    x, f_x = table(SMALL.held_out, seed=1).rows(slice(None))
    error = (trained.vae.reconstruct(x, f_x) - x).double()
    assert figures["rmse_hu"] == pytest.approx(float(error.square().mean().sqrt()), rel=1e-4)
    alone = float((x - f_x).double().square().mean().sqrt())
    assert figures["f_x"]["rmse_hu"] == pytest.approx(alone, rel=1e-4)
    assert figures["rmse_hu"] < alone
    without = (trained.vae.decode(torch.zeros(len(x), 16), f_x) - x).double()
    assert figures["no_code"]["rmse_hu"] == pytest.approx(float(without.square().mean().sqrt()), rel=1e-4)
    assert len(figures["lost"]) == len(figures["f_x"]["lost"]) == 10
    assert figures["pca"]["components"] == figures["numbers"] == 16
    assert trained.others.shape == (8, 1, 32, 32)
    assert torch.equal(trained.others.half(), table().f_x[:8])
    path = here.store.path(request.kind, here.store.key(request.describe()))
    again = load_conditional(path, sha256=trained.sha256)
    assert torch.equal(again.vae.reconstruct(x, f_x), trained.vae.reconstruct(x, f_x))
    figures_again = conditional_figures(again.vae, GivenPatches(x.half(), f_x.half()))
    assert figures_again["lost"] == figures["lost"]
    stored = artifacts.load(path, kind=request.kind)
    others = stored.tensors["others"]
    artifacts.save(
        path, {**stored.tensors, "others": others * float("nan")}, kind=request.kind, meta=stored.meta
    )
    with pytest.raises(ArtifactError, match="not finite"):
        load_conditional(path)
    artifacts.save(path, stored.tensors, kind=request.kind, meta={"config": {"patch": 8}})
    with pytest.raises(ArtifactError, match="Train again"):
        load_conditional(path)
    del stored.tensors["others"]
    artifacts.save(path, stored.tensors, kind=request.kind, meta=stored.meta)
    with pytest.raises(ArtifactError, match="no images"):
        load_conditional(path)
