from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from invkit.data.patches import PatchBatch
from invkit.errors import ArtifactError, DivergedError
from invkit.training.engine import FitConfig, Shard, fit
from invkit.training.seeds import generator
from invkit.vae.train import (
    VaeTask,
    build,
    held_out_figures,
    load_vae,
    save_vae,
    train_vae,
)
from invkit.vae.vae import VaeConfig

WHOLE = Shard(0, 1)


class Blobs:
    """Patches of smooth blobs, one per counter; y = x + 1000 so that domains are told apart."""

    dose = 0.25

    def __init__(self, seed=0, size=32, kinds=None):
        self.seed, self.size, self.kinds = seed, size, kinds
        self.slices = SimpleNamespace(fingerprint=f"blobs{seed}", description="blobs")
        self.drawn = 0

    def batch(self, step, n, shard=None):
        self.drawn += 1
        rng = generator(self.seed, "blobs", step if self.kinds is None else 0)
        centre = torch.rand(n, 2, 1, 1, generator=rng) * self.size
        grid = torch.arange(float(self.size))
        square = (grid[None, :, None] - centre[:, :1, 0]) ** 2 + (grid[None, None, :] - centre[:, 1:, 0]) ** 2
        x = (800 * torch.exp(-square / 60) - 400)[:, None]
        part = shard or slice(None)
        count = len(x[part])
        return PatchBatch(
            x[part], x[part] + 1000, None, torch.zeros(count), torch.zeros(count, dtype=torch.long)
        )


def task(config=None, seed=3, domain="low", sampler=None):
    config = config or VaeConfig.preset("tiny", adversarial_from=0.5, bf16=False)
    vae, critic = build(config, seed, "cpu")
    return VaeTask(vae, critic, sampler or Blobs(), Blobs(1), domain=domain, seed=seed)


@pytest.mark.parametrize("phase", ["generator", "critic"])
@pytest.mark.parametrize("step", [3, 10, 12])
def test_loss_is_pure(phase, step):
    """The same step twice, with other steps and other use of the global generator between, gives the same numbers."""
    subject = task()
    results = []
    for _ in range(2):
        loss, figures = subject.loss(phase, step, WHOLE)
        optimizer = subject.optimizers[phase]
        optimizer.zero_grad()
        loss.backward()
        gradients = [p.grad.clone() for group in optimizer.param_groups for p in group["params"]]
        results.append((loss.detach(), gradients, {key: float(value) for key, value in figures.items()}))
        subject.loss("generator", step + 1, WHOLE)
        torch.rand(7)
    (first, first_gradients, first_figures), (second, second_gradients, second_figures) = results
    assert torch.equal(first, second)
    assert first_figures == second_figures
    assert all(torch.equal(a, b) for a, b in zip(first_gradients, second_gradients, strict=True))


def test_both_phases_of_a_step_share_one_batch():
    sampler = Blobs()
    subject = task(sampler=sampler)
    assert subject.phases(9) == ("generator",)
    assert subject.phases(10) == ("critic", "generator")
    for phase in subject.phases(10):
        subject.loss(phase, 10, WHOLE)
    assert sampler.drawn == 1


def test_penalty_is_lazy_and_counts_as_often():
    subject = task(VaeConfig.preset("tiny", adversarial_from=0.0, penalty_every=4, bf16=False))
    present = ["gradient_penalty" in subject.loss("critic", step, WHOLE)[1] for step in range(8)]
    assert present == [True, False, False, False, True, False, False, False]
    loss, figures = subject.loss("critic", 4, WHOLE)
    assert float(loss.detach()) == pytest.approx(
        float(40 * figures["gradient_penalty"] - figures["wasserstein"]), rel=1e-5
    )


def test_each_phase_trains_its_own_parameters():
    subject = task(VaeConfig.preset("tiny", adversarial_from=0.0, bf16=False))
    loss, _ = subject.loss("critic", 0, WHOLE)
    loss.backward()
    assert all(parameter.grad is None for parameter in subject.vae.parameters())
    assert all(parameter.grad is not None for parameter in subject.critic.parameters())


def test_shards_have_their_part_of_the_batch_and_other_noise():
    subject = task()
    parts = [subject._scaled(0, Shard(rank, 2)) for rank in (0, 1)]
    assert torch.equal(torch.cat(parts), task()._scaled(0, WHOLE))


def test_domain_chooses_the_image():
    low, high = (task(domain=domain)._scaled(0, WHOLE) for domain in ("low", "high"))
    torch.testing.assert_close(high - low, torch.full_like(low, 1000 / 400), atol=1e-5, rtol=0)


def test_learning_rate_warms_up_and_falls_to_zero():
    subject = task()
    rates = [subject.learning_rate("generator", step) for step in range(subject.config.steps)]
    assert rates[0] < rates[4] <= max(rates) == pytest.approx(subject.config.lr)
    assert rates[-1] == 0.0
    assert subject.learning_rate("critic", 3) == subject.config.critic_lr


def test_collapsed_posterior_is_a_divergence():
    subject = task()
    with torch.no_grad():
        for layer in (subject.vae.encoder.head, subject.vae.encoder.linear):
            layer.weight.zero_()
            layer.bias.zero_()
    with pytest.raises(DivergedError, match="collapsed"):
        subject.evaluate(0)


def test_tiny_vae_overfits_eight_patches(tmp_path):
    config = VaeConfig.preset(
        "tiny", steps=150, lr=6e-3, adversarial_from=1.0, kl_weight=0.01, band_weight=0.0, bf16=False
    )
    patches = Blobs(5, kinds=8)
    vae, critic = build(config, 0, "cpu")
    subject = VaeTask(vae, critic, patches, patches, domain="low", seed=0)
    fit(subject, FitConfig(steps=config.steps, clip_norm=1.0, evaluate_every=150), tmp_path)
    x = patches.batch(0, 8).x
    spread = (x - x.mean(0)).square().mean().sqrt()
    with torch.no_grad():
        error = (vae.reconstruct(x) - x).square().mean().sqrt()
    assert error < 0.1 * spread


def test_held_out_figures_of_a_known_error():
    """A VAE that returns x / 2 + noise-free: errors and energies follow in closed form."""

    class Half(torch.nn.Module):
        def __init__(self, vae):
            super().__init__()
            self.inner, self.decoder, self.d = vae, vae.decoder, vae.d

        def encode(self, x):
            self.x = x
            return self.inner.encode(x)

        def decode(self, z_bar):
            return self.x / 2

    held_out = Blobs(2)
    figures = held_out_figures(Half(task().vae), held_out, "low", 100)
    x = torch.cat([held_out.batch(0, 64).x, held_out.batch(1, 64).x[:36]])
    errors = (x / 2).square().mean(dim=(1, 2, 3)).sqrt()
    assert figures["patches"] == 100
    assert figures["rmse_hu"] == pytest.approx(errors.square().mean().sqrt().item(), rel=1e-5)
    assert figures["rmse_quantiles_hu"]["0.99"] == pytest.approx(errors.quantile(0.99).item(), rel=1e-5)
    assert figures["bands"] == pytest.approx([0.25] * 10, rel=1e-3)
    assert figures["bands_plain"] == pytest.approx([0.25] * 10, rel=1e-3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    config = VaeConfig.preset("tiny", adversarial_from=0.5, pca_patches=64)
    return train_vae(Blobs(), Blobs(1), config, tmp_path_factory.mktemp("vae"), domain="low", seed=4)


def test_train_vae_stores_provenance_and_figures_of_what_is_stored(trained):
    meta = trained.meta
    assert meta["domain"] == "low"
    assert meta["seed"] == 4
    assert meta["steps"] == 20
    assert meta["data"]["fingerprint"] == "blobs0"
    assert meta["held_out"]["description"] == "blobs"
    assert meta["held_out"]["pca"]["components"] == 16
    again = held_out_figures(trained.vae, Blobs(1), "low", 64)
    assert again["rmse_hu"] == pytest.approx(meta["held_out"]["rmse_hu"], rel=1e-6)
    assert trained.critic is not None
    assert not any(parameter.requires_grad for parameter in trained.vae.parameters())


def test_round_trip_is_exact_and_a_changed_bit_is_refused(trained, tmp_path):
    path = tmp_path / "copy.safetensors"
    sha256 = save_vae(path, trained, trained.meta)
    loaded = load_vae(path, sha256=sha256)
    x = Blobs(7).batch(0, 3).x
    assert torch.equal(loaded.vae.reconstruct(x), trained.vae.reconstruct(x))
    assert torch.equal(loaded.critic(x), trained.critic(x))
    assert loaded.sha256 == sha256
    assert loaded.meta == trained.meta
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ArtifactError, match="was changed"):
        load_vae(path)


def test_critic_may_be_left_out(trained, tmp_path):
    path = tmp_path / "small.safetensors"
    save_vae(path, replace(trained, critic=None), trained.meta)
    assert load_vae(path).critic is None


def test_file_that_contradicts_its_config_is_refused(trained, tmp_path):
    path = tmp_path / "odd.safetensors"
    for change, message in (({"width": 8}, "does not fit"), ({"depth": 8}, "does not describe")):
        save_vae(path, trained, {**trained.meta, "config": {**trained.meta["config"], **change}})
        with pytest.raises(ArtifactError, match=message):
            load_vae(path)


def test_weights_that_are_not_finite_are_refused(trained, tmp_path):
    vae, _ = build(trained.vae.config, 0, "cpu")
    with torch.no_grad():
        vae.decoder.head.bias[0] = torch.nan
    path = tmp_path / "nan.safetensors"
    save_vae(path, replace(trained, vae=vae), trained.meta)
    with pytest.raises(ArtifactError, match="not finite"):
        load_vae(path)
