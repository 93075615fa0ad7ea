"""Training a denoiser by its recipe: mean squared error, or a Wasserstein GAN with a perceptual term."""

__all__ = ["DenoiserTask"]

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from invkit.artifacts import fingerprint
from invkit.data.patches import PatchSampler
from invkit.denoisers.recipe import Recipe
from invkit.denoisers.spec import Preprocessing
from invkit.errors import UsageError
from invkit.training.engine import Shard
from invkit.training.feed import Feed
from invkit.training.optimiser import adam, cosine
from invkit.training.penalty import gradient_penalty
from invkit.training.precision import mixed_precision
from invkit.training.seeds import derive_seed, generator, seeded


class DenoiserTask:
    """What `fit` needs to train one denoiser.

    All networks are trained in bf16 with fp32 parameters where that is measured to be faster; what is evaluated, and the
    denoiser once it is trained, runs in fp32.

    Args:
        network: the denoiser, in network units.
        preprocessing: its map between HU and network units.
        recipe: losses, sizes and rates.
        train: pairs to learn from, of the recipe's patch size.
        held_out: pairs to judge on.
        seed: decides every random number.
        backbone: features of an image in HU, where the recipe has a perceptual term; it is put in eval mode and
            its weights are frozen.
        device: where to train.

    Raises:
        UsageError: the recipe has a perceptual term and no backbone was given.
    """

    monitor = None
    bf16 = True

    def __init__(
        self,
        network: nn.Module,
        preprocessing: Preprocessing,
        recipe: Recipe,
        train: PatchSampler,
        held_out: PatchSampler,
        *,
        seed: int,
        backbone: nn.Module | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if recipe.perceptual is not None and backbone is None:
            raise UsageError(
                f"the recipe has a perceptual term: build its backbone {recipe.perceptual.backbone!r} and pass it"
            )
        self.recipe = recipe
        self.preprocessing = preprocessing
        self.train = train
        self.held_out = held_out
        self.seed = seed
        self.device = torch.device(device)
        # Torch's types of `to` know no memory format, here and below.
        self.network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.backbone = (
            backbone.to(self.device).eval().requires_grad_(False) if backbone is not None else None
        )
        modules = {"denoiser": self.network}
        self.optimizers: Mapping[str, torch.optim.Optimizer] = {
            "denoiser": adam(self.network.parameters(), recipe.lr, recipe.betas)
        }
        self.critic: nn.Module | None = None
        if recipe.adversarial is not None:
            build = partial(recipe.adversarial.build_critic, recipe.patch)
            critic = seeded(build, derive_seed(seed, "critic"))
            critic = critic.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            self.critic = modules["critic"] = critic
            self.optimizers = {
                **self.optimizers,
                "critic": adam(critic.parameters(), recipe.adversarial.lr, recipe.betas),
            }
        self.modules: Mapping[str, nn.Module] = modules
        self.identity = fingerprint(
            {
                "recipe": recipe.describe(),
                "preprocessing": preprocessing.describe(),
                "data": [
                    [sampler.slices.fingerprint, sampler.size, sampler.dose, sampler.seed]
                    for sampler in (train, held_out)
                ],
                "seed": seed,
            }
        )
        self._turn = (0, 0)
        self._feed = Feed(self._draw, self.device)
        self._batch: tuple[tuple[int, int, Shard], tuple[Tensor, ...]] | None = None

    def phases(self, step: int) -> Sequence[str]:
        """Return the denoiser alone during `mse_steps`, then the critic's steps before the denoiser's."""
        self._turn = (step, 0)
        if self.recipe.adversarial is None or step < self.recipe.mse_steps:
            return ("denoiser",)
        return (*["critic"] * self.recipe.adversarial.critic_steps, "denoiser")

    def learning_rate(self, phase: str, step: int) -> float:
        """Return Adam's rate: the critic's own, else a cosine from `lr` to `lr_end * lr`."""
        recipe = self.recipe
        if phase == "critic" and recipe.adversarial is not None:
            return recipe.adversarial.lr
        return cosine(recipe.lr, step, recipe.steps, end=recipe.lr_end)

    def loss(self, phase: str, step: int, shard: Shard) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Return the loss of one phase on this process's part of the batch.

        The critic's first loss after `phases(step)` is that of its first batch, the next that of its second.
        """
        recipe = self.recipe
        draw = 0
        if phase == "critic":
            draw = self._turn[1] if self._turn[0] == step else 0
            self._turn = (step, draw + 1)
        x, y = map(self.preprocessing.normalise, self._pairs(phase, step, draw, shard))
        if phase == "critic":
            # Drawn for the whole batch: the same numbers however many processes share it.
            return self._critic_loss(x, y, generator(self.seed, "penalty", step, draw, 0), shard)
        return self._denoiser_loss(x, y, warming_up=step < recipe.mse_steps)

    def evaluate(self, step: int) -> dict[str, float]:
        """Return RMSE in HU on held-out pairs, before and after denoising; against the noise-free image where known."""
        batch = self.held_out.batch(0, 64)
        with torch.no_grad():
            x = self.preprocessing.normalise(batch.x.to(self.device))
            out = self.preprocessing.denormalise(self.network(x)).cpu()
        truth = batch.y if batch.clean is None else batch.clean
        return {
            "rmse_low_dose_hu": (batch.x - truth).square().mean().sqrt().item(),
            "rmse_denoised_hu": (out - truth).square().mean().sqrt().item(),
        }

    @property
    def _draws(self) -> int:
        """How many batches a step has."""
        return self.recipe.adversarial.critic_steps if self.recipe.adversarial is not None else 1

    def _pairs(self, phase: str, step: int, draw: int, shard: Shard) -> tuple[Tensor, ...]:
        """Return x and y on the device, `(n, 1, s, s)`, HU."""
        # Every critic step of a step sees its own pairs; the denoiser sees those of the first.
        key = (step, draw, shard)
        if self._batch is None or self._batch[0] != key:
            more = phase == "critic" and self._draws > 1
            following = (step, (draw + 1) % self._draws, shard) if more else (step + 1, 0, shard)
            self._batch = (key, self._feed.batch(key, following=following))
        return self._batch[1]

    def _draw(self, key: tuple[int, int, Shard]) -> tuple[Tensor, Tensor]:
        (step, draw, shard), n = key, self.recipe.batch
        batch = self.train.batch(step * self._draws + draw, n, shard.slice(n))
        return batch.x, batch.y

    def _critic_loss(
        self, x: Tensor, y: Tensor, random: torch.Generator, shard: Shard
    ) -> tuple[Tensor, dict[str, Tensor | float]]:
        critic, adversarial = self.critic, self.recipe.adversarial
        assert critic is not None and adversarial is not None
        with mixed_precision(self.device):
            with torch.no_grad():
                fake = self.network(x).float()
            score_fake, score_real = critic(torch.cat([fake, y])).float().chunk(2)
            penalty = gradient_penalty(critic, y, fake, random, shard)
        distance = score_real.mean() - score_fake.mean()
        loss = -distance + adversarial.gradient_penalty * penalty
        return loss, {"wasserstein": distance.detach(), "penalty": penalty.detach()}

    def _denoiser_loss(
        self, x: Tensor, y: Tensor, *, warming_up: bool
    ) -> tuple[Tensor, dict[str, Tensor | float]]:
        recipe = self.recipe
        with mixed_precision(self.device):
            out = self.network(x).float()
        mse = (out - y).square().mean()
        if warming_up:
            return mse, {"mse": mse.detach()}
        loss = recipe.mse * mse
        logs: dict[str, Tensor | float] = {"mse": mse.detach()}
        if recipe.adversarial is not None and self.critic is not None:
            with mixed_precision(self.device):
                score = self.critic(out).float().mean()
            loss = loss - recipe.adversarial.weight * score
            logs["score"] = score.detach()
        if recipe.perceptual is not None and self.backbone is not None:
            hu = self.preprocessing.denormalise
            with mixed_precision(self.device):
                with torch.no_grad():
                    target = self.backbone(hu(y)).float()
                distance = (self.backbone(hu(out)).float() - target).square().mean()
            loss = loss + recipe.perceptual.weight * distance
            logs["perceptual"] = distance.detach()
        return loss, logs
