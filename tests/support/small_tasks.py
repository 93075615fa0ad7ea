"""Pairs, networks and recipes that are small enough to train a denoiser on in a test."""

from types import SimpleNamespace

import torch
from torch import nn

from invkit.data.patches import PatchBatch
from invkit.denoisers.recipe import Adversarial, Recipe
from invkit.denoisers.spec import Affine
from invkit.denoisers.task import DenoiserTask
from invkit.training.engine import Shard
from invkit.training.seeds import generator

WHOLE = Shard(0, 1)
SIZE = 12
PREPROCESSING = Affine(mean=-500.0, std=400.0)


class Pairs:
    """y is random, x is y with noise; a function of (seed, step), which it notes."""

    size, dose = SIZE, 0.25

    def __init__(self, seed: int = 0, clean: bool = True):
        self.seed, self.clean = seed, clean
        self.slices = SimpleNamespace(fingerprint=f"pairs{seed}")
        self.steps: list[int] = []

    def batch(self, step: int, n: int, shard: slice | None = None) -> PatchBatch:
        self.steps.append(step)
        random = generator(self.seed, "pairs", step)
        clean = torch.randn(n, 1, SIZE, SIZE, generator=random) * 300
        y = clean + 10 * torch.randn(clean.shape, generator=random)
        x = y + 20 * torch.randn(clean.shape, generator=random)
        part = shard or slice(None)
        known = clean[part] if self.clean else None
        return PatchBatch(x[part], y[part], known, torch.full((n,), 20.0)[part], torch.arange(n)[part])


class Few(Pairs):
    """The same two patches at every step, and what is to be learned is affine."""

    def batch(self, step: int, n: int, shard: slice | None = None) -> PatchBatch:
        same = super().batch(0, 2)
        y = 0.5 * same.x + 100
        return PatchBatch(same.x, y, y, same.noise, same.patient)


def network(seed: int = 0) -> nn.Module:
    return built(lambda: nn.Conv2d(1, 1, 3, padding=1), seed)


def built(build, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def linear_critic() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(SIZE * SIZE, 1))


def deep_critic() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, 2), nn.LeakyReLU(0.2), nn.Conv2d(4, 4, 3, 2), nn.Flatten(), nn.Linear(16, 1)
    )


MSE = Recipe(patch=SIZE, batch=4, steps=20, lr=1e-3, lr_end=0.1)
WGAN = Recipe(
    patch=SIZE,
    batch=4,
    steps=20,
    lr=1e-3,
    lr_end=0.1,
    mse=0.25,
    mse_steps=2,
    adversarial=Adversarial(linear_critic, weight=0.5, gradient_penalty=10.0, critic_steps=3, lr=2e-3),
)
FULL = WGAN.changed({"perceptual": {"weight": 0.3, "backbone": "squares"}})


class Squares(nn.Module):
    """A backbone whose features are squares of HU / 1000, with a part that acts in training mode only."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.factor * (x / 1000).square())


def task(
    recipe: Recipe = MSE, *, seed: int = 3, sampler=None, held_out=None, net=None, **options
) -> DenoiserTask:
    if recipe.perceptual is not None:
        options.setdefault("backbone", Squares().train())
    return DenoiserTask(
        net or network(),
        PREPROCESSING,
        recipe,
        sampler or Pairs(),
        held_out or Pairs(1),
        seed=seed,
        **options,
    )


def pair(step: int, sampler=None) -> tuple[torch.Tensor, torch.Tensor]:
    batch = (sampler or Pairs()).batch(step, 4)
    return (batch.x + 500) / 400, (batch.y + 500) / 400
