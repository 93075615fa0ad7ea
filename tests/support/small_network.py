"""A denoiser of two convolutions, a disc in noise to show it, and the options of an analysis that trains for seconds."""

import numpy as np
import torch
from torch import nn

from invkit.parts.config import LayerConfig

TINY = LayerConfig.preset("tiny")
TINY_OPTIONS = {"config": TINY, "vae_preset": "tiny", "train_data": ["phantoms:12"]}
UNTRAINED_OPTIONS = {
    "config": TINY,
    "sampler": "training-free",
    "train_data": ["phantoms:12"],
    "train_noise": "image",
    "samples": 5,
    "refine": 2,
}


class Small(nn.Sequential):
    """Two convolutions from HU to HU, nearly the identity; what they lose is in the last."""

    def __init__(self, seed=3):
        super().__init__(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 1, 1))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            for parameter in self.parameters():
                nn.init.normal_(parameter, 0.2, 0.1)


def convolutions():
    """Return two convolutions of 3 x 3 pixels and 4 channels, as torch initialises them."""
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))


class Function(nn.Module):
    """A network that is nothing but a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Fixed(nn.Module):
    """Weights that no module knows how to draw."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.5))

    def forward(self, x):
        return self.gain * x


def disc_image(height, width, radius=15):
    """Return a disc of 140 HU in 40 HU with noise of 20 HU, `(height, width)`."""
    rows, columns = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).normal(0, 20, (height, width))
    inside = np.hypot(rows - height // 2, columns - width // 2) < radius
    return (40 + 100 * inside + noise).astype(np.float32)
