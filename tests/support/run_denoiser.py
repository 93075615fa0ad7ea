"""A denoiser of a few hundred parameters with a critic, a data source, and the smallest run on them; run as a script too."""

import sys
from pathlib import Path

from torch import nn

import invkit
from invkit.artifacts import cache_folder
from invkit.data.slices import load_slices
from invkit.workflow.config import RunConfig
from invkit.workflow.run import run


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x):
        return self.second(self.first(x).relu())


class Critic(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 4, stride=4), nn.Flatten(), nn.Linear(64, 1))

    def forward(self, x):
        return self.layers(x)


RECIPE = invkit.Recipe(
    patch=16, batch=4, steps=8, lr=1e-3, adversarial=invkit.Adversarial(critic=Critic, lr=1e-3)
)


def bodies(spec, seed):
    return load_slices([f"phantoms:{spec}"], seed=seed, cache=cache_folder() / "phantoms")


class Plugin:
    @invkit.hookimpl
    def invkit_denoisers(self):
        layers = (invkit.Layer("1", module="first"), invkit.Layer("2", module="second"))
        scale = invkit.Affine(mean=0.0, std=500.0)
        return [
            invkit.Denoiser("small", Small, scale, layers, recipe=RECIPE),
            invkit.Denoiser("fixed", Small, scale, layers),
        ]

    @invkit.hookimpl
    def invkit_sources(self):
        return [invkit.Source("bodies", bodies)]


def host():
    host = invkit.PluginHost(installed=False)
    host.add_object(Plugin(), name="run_denoiser")
    return host


CONFIG = {
    "data": ["bodies:14"],
    "denoisers": {"small": {"layers": ["1"]}},
    "samples": 2,
    "domains": ["low"],
    "images": {"count": 2, "size": 32},
    "vae": {
        "patch": 32,
        "d": 8,
        "stem": 4,
        "width": 8,
        "inner": 4,
        "encoder_blocks": [1, 1],
        "decoder_blocks": [1, 1],
        "neck": 4,
        "critic_stem": 4,
        "critic_width": 4,
        "steps": 4,
        "batch": 4,
        "held_out": 8,
        "pca_patches": 0,
        "adversarial_from": 0.5,
        "warmup": 1,
    },
    "regressor": {
        "hidden": 4,
        "stages": 2,
        "stage_batches": 4,
        "steps": 2,
        "batch": 2,
        "patch": 16,
        "calibration": 1,
    },
    "cinn": {
        "d": 8,
        "blocks": 1,
        "hidden": 8,
        "context": 4,
        "embedder_hidden": 8,
        "batch": 8,
        "steps": 6,
        "evaluate_every": 3,
    },
    "table": {"rows": 32, "held_out": 16, "pairs": 8},
}


def config(**changes):
    return RunConfig.model_validate({**CONFIG, **changes})


if __name__ == "__main__":
    run(config(domains=["low", "high"]), Path(sys.argv[1]), host=host())
