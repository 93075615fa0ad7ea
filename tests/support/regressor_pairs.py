"""Images and what a layer makes of them, by step."""

import torch

from invkit.data.dose.texture import noise_texture
from invkit.training.seeds import generator


def images(step, n=4, size=24, seed=0):
    """CT-like noise of 100 HU on slopes of a few hundred HU."""
    rng = generator(seed, "images", step)
    slope = torch.rand(n, 2, 1, 1, generator=rng) * 40 - 20
    grid = torch.arange(float(size)) - size / 2
    x = slope[:, :1] * grid[None, None, :, None] + slope[:, 1:] * grid[None, None, None, :]
    return x + 100 * noise_texture(n, size, size, generator=rng)


def pairs_of(phi, seed=0, **changes):
    def pairs(step, shard):
        x = images(step, seed=seed, **changes)
        x = x[shard.slice(len(x))]
        with torch.no_grad():
            return phi(x), x

    return pairs
