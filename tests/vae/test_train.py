import pytest
import torch
from blobs import Blobs, vae_and_critic

from invkit.errors import DivergedError
from invkit.parts.preset_file import vae_preset
from invkit.training.engine import FitConfig, Shard, fit
from invkit.vae.held_out import held_out_figures
from invkit.vae.train import VaeTask

WHOLE = Shard(0, 1)


def task(config=None, seed=3, domain="low", sampler=None):
    config = config or vae_preset("tiny", adversarial_from=0.5, bf16=False)
    vae, critic = vae_and_critic(config, seed)
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
    subject = task(vae_preset("tiny", adversarial_from=0.0, penalty_every=4, bf16=False))
    present = ["gradient_penalty" in subject.loss("critic", step, WHOLE)[1] for step in range(8)]
    assert present == [True, False, False, False, True, False, False, False]
    loss, figures = subject.loss("critic", 4, WHOLE)
    assert float(loss.detach()) == pytest.approx(
        float(40 * figures["gradient_penalty"] - figures["wasserstein"]), rel=1e-5
    )


def test_each_phase_trains_its_own_parameters():
    subject = task(vae_preset("tiny", adversarial_from=0.0, bf16=False))
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
    config = vae_preset(
        "tiny", steps=150, lr=6e-3, adversarial_from=1.0, kl_weight=0.01, band_weight=0.0, bf16=False
    )
    patches = Blobs(5, kinds=8)
    vae, critic = vae_and_critic(config, 0)
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
            self.inner, self.device = vae, vae.device

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
