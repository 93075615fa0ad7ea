"""Training of the VAE-WGAN: its task for the engine, and the gains of its equaliser."""

__all__ = ["VaeTask", "equalise"]

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from invkit.data.patches import Domain
from invkit.errors import DivergedError
from invkit.training.engine import Shard
from invkit.training.optimiser import adam, warm_cosine
from invkit.training.penalty import gradient_penalty
from invkit.training.precision import mixed_precision
from invkit.training.seeds import generator
from invkit.vae.critic import Critic
from invkit.vae.held_out import (
    CHUNK,
    PatchSource,
    held_out_figures,
    patch_feed,
)
from invkit.vae.losses import (
    adaptive_weight,
    band_energy,
    kl_divergence,
    sigma_nll,
)
from invkit.vae.vae import VAE

EQUALISED = 512  # training patches
COLLAPSED = 0.01  # nats per dimension


class VaeTask:
    """Trains E and D (phase "generator") and, in the last part, C (phase "critic") as one engine task.

    Generator loss, nats per pixel: `1/2 log mse + kl_weight KL / pixels + band_weight * band energy
    - adversarial_weight * lambda * mean C(x_bar)`, with lambda the adaptive weight. Critic loss: `mean
    C(x_bar) - mean C(x) + penalty * gradient penalty`, the latter at every `penalty_every`-th step and then
    as many times heavier.

    Args:
        vae: what is trained.
        critic: its critic, on the same device.
        sampler: training patches of the VAE's size.
        held_out: patches of other patients.
        domain: `"low"` learns x, `"high"` learns y.
        seed: of everything random here.
    """

    def __init__(
        self,
        vae: VAE,
        critic: Critic,
        sampler: PatchSource,
        held_out: PatchSource,
        *,
        domain: Domain,
        seed: int,
        identity: str | None = None,
    ):
        self.vae = vae
        self.critic = critic
        self.sampler = sampler
        self.held_out = held_out
        self.domain = domain
        self.seed = seed
        self.identity = identity
        self.config = vae.config
        self.device = vae.decoder.last.device
        self.bf16 = self.config.bf16
        self._feed = patch_feed(sampler, domain, self.config.batch, self.device)
        self._batch: tuple[tuple[int, Shard], Tensor] | None = None
        self._optimizers = {
            "generator": adam(vae.parameters(), lr=self.config.lr, betas=self.config.betas),
            "critic": adam(critic.parameters(), lr=self.config.critic_lr, betas=self.config.critic_betas),
        }

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """Both networks."""
        return {"vae": self.vae, "critic": self.critic}

    @property
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """One Adam for E and D, one for C."""
        return self._optimizers

    def phases(self, step: int) -> Sequence[str]:
        """Return the generator's phase alone, and once the critic has joined, the critic's before it."""
        return ("generator",) if step < self.config.critic_begins else ("critic", "generator")

    def learning_rate(self, phase: str, step: int) -> float:
        """Return the critic's constant rate, or the generator's: a warm-up, then a cosine to 0."""
        if phase == "critic":
            return self.config.critic_lr
        return warm_cosine(self.config, step)

    def loss(self, phase: str, step: int, shard: Shard) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Return a phase's loss, a function of parameters, seed, step and shard alone, and figures to log."""
        x = self._scaled(step, shard)
        # Drawn for the whole batch: the same numbers however many processes share it.
        noise = generator(self.seed, "vae", phase, step, 0, device=self.device)
        loss = self._critic_loss if phase == "critic" else self._generator_loss
        return loss(x, step, noise, shard)

    def evaluate(self, step: int) -> dict[str, float]:
        """Return RMSE, band energies and KL on two chunks of held-out patches.

        Raises:
            DivergedError: the codes carry nothing: the posterior has collapsed.
        """
        figures = held_out_figures(self.vae, self.held_out, self.domain, 2 * CHUNK)
        if figures["kl_per_dim"] < COLLAPSED and self.config.kl_weight > 0:
            raise DivergedError(
                f"the posterior has collapsed: {figures['kl_per_dim']:.4f} nats per dimension of the code"
            )
        return {
            "rmse_hu": figures["rmse_hu"],
            "kl_per_dim": figures["kl_per_dim"],
            "band_lowest": min(figures["bands"]),
            "band_highest": max(figures["bands"]),
        }

    def _scaled(self, step: int, shard: Shard) -> Tensor:
        """Return the step's patches in network units; drawn once even where two phases use them."""
        if self._batch is None or self._batch[0] != (step, shard):
            (x,) = self._feed.batch((step, shard), following=(step + 1, shard))
            self._batch = ((step, shard), self.vae.scale(x))
        return self._batch[1]

    def _coded(self, x: Tensor, noise: torch.Generator, shard: Shard) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean, log-variance and the reconstruction from a posterior sample."""
        mean, log_var = self.vae.encoder(x)
        count = len(mean) * shard.world
        sample = torch.randn((count, mean.shape[1]), generator=noise, device=self.device)[shard.slice(count)]
        return mean, log_var, self.vae.decoder(mean + (0.5 * log_var).exp() * sample)

    def _generator_loss(
        self, x: Tensor, step: int, noise: torch.Generator, shard: Shard
    ) -> tuple[Tensor, dict[str, Tensor | float]]:
        config = self.config
        with mixed_precision(self.device):
            mean, log_var, x_bar = self._coded(x, noise, shard)
        kl = kl_divergence(mean, log_var).mean()
        reconstruction = sigma_nll(x, x_bar)
        figures: dict[str, Tensor | float] = {
            "rmse_hu": reconstruction.detach().exp() * config.hu_scale,
            "kl_per_dim": kl.detach() / config.d,
        }
        if config.band_weight > 0:
            bands = band_energy(x, x_bar, tolerance=config.band_tolerance)
            reconstruction = reconstruction + config.band_weight * bands
            figures["band_energy"] = bands.detach()
        loss = reconstruction + config.kl_weight * kl / x[0].numel()
        if step >= config.critic_begins:
            with mixed_precision(self.device):
                adversarial = -self.critic(x_bar).mean()
            weight = adaptive_weight(
                reconstruction, adversarial, self.vae.decoder.last, config.adversarial_limit
            )
            loss = loss + config.adversarial_weight * weight * adversarial
            figures["adversarial_scale"] = weight
        return loss, figures

    def _critic_loss(
        self, x: Tensor, step: int, noise: torch.Generator, shard: Shard
    ) -> tuple[Tensor, dict[str, Tensor | float]]:
        config = self.config
        with mixed_precision(self.device):
            with torch.no_grad():
                _, _, fake = self._coded(x, noise, shard)
            scores = self.critic(torch.cat([x, fake]))
            real_score, fake_score = scores.chunk(2)
            distance = real_score.mean() - fake_score.mean()
            loss = -distance
            figures: dict[str, Tensor | float] = {"wasserstein": distance.detach()}
            if (step - config.critic_begins) % config.penalty_every == 0:
                penalty = gradient_penalty(self.critic, x, fake, noise, shard)
                loss = loss + config.penalty * config.penalty_every * penalty
                figures["gradient_penalty"] = penalty.detach()
        return loss, figures


@torch.no_grad()
def equalise(vae: VAE, sampler: PatchSource, domain: Domain) -> None:
    """Measure the gains of a trained VAE's equaliser on its first training patches."""
    images, reconstructions = [], []
    for step in range(EQUALISED // CHUNK):
        x = vae.scale(sampler.batch(step, CHUNK).of(domain).to(vae.decoder.last.device))
        images.append(x)
        reconstructions.append(vae.decoder(vae.encoder(x)[0]))
    vae.equaliser.calibrate(torch.cat(images), torch.cat(reconstructions))
