"""Patches of smooth blobs, and a VAE with its critic to train on them."""

from types import SimpleNamespace

import torch

from invkit.data.patches import PatchBatch
from invkit.training.seeds import generator, seeded
from invkit.vae.vae import VAE, build_critic


def vae_and_critic(config, seed=0):
    """Return both networks with parameters that depend on the seed alone."""
    return seeded(lambda: (VAE(config), build_critic(config)), seed)


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
