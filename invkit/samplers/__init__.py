"""What a sampler is made of: the public names that a plugin's samplers are built from.

Every name is imported at its first use, so importing this page imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from invkit.data.patches import Domain, PatchSampler
    from invkit.denoisers.loaded import AT_ONCE
    from invkit.fiber.distance import Activation
    from invkit.flow.cinn import CINN
    from invkit.flow.layers import soft_clamp
    from invkit.flow.table import CodeTable
    from invkit.images.bands import radial_bands
    from invkit.parts.code import CodeRequest, CodeTraining
    from invkit.parts.config import LayerConfig, SamplerSettings
    from invkit.parts.layer import LayerTraining
    from invkit.parts.layer_file import LayerRequest, LearnedFlow, read_layer
    from invkit.parts.workshop import Workshop
    from invkit.regressor.regressor import Regressor
    from invkit.samplers.family import Family, TrainedFamily
    from invkit.sampling.base import (
        FlowModel,
        ImageDraws,
        ImageSampler,
        SampleModel,
        Scalable,
        estimate_image,
    )
    from invkit.sampling.draws import invariances
    from invkit.sampling.layer import ScaledLayer, Target
    from invkit.sampling.tiles import Tiling
    from invkit.training.engine import FitConfig, FitResult, Shard
    from invkit.training.feed import to_device
    from invkit.training.optimiser import OnePhase
    from invkit.training.precision import in_float64, mixed_precision
    from invkit.training.progress import Progress, report_progress
    from invkit.training.seeds import derive_seed, generator, seeded
    from invkit.vae.completeness import completeness
    from invkit.vae.decoder import Decoder
    from invkit.vae.encoder import Encoder, ResidualBlock, Sizes
    from invkit.vae.fitting import read_network
    from invkit.vae.held_out import first_patches, held_out_figures, patch_feed, reconstruction_figures
    from invkit.vae.losses import sigma_nll
    from invkit.vae.pca import fit_pca, linear_vae
    from invkit.vae.vae import HU_RANGE, HuVae, Posterior

__all__ = [
    "AT_ONCE",
    "CINN",
    "HU_RANGE",
    "Activation",
    "CodeRequest",
    "CodeTable",
    "CodeTraining",
    "Decoder",
    "Domain",
    "Encoder",
    "Family",
    "FitConfig",
    "FitResult",
    "FlowModel",
    "HuVae",
    "ImageDraws",
    "ImageSampler",
    "LayerConfig",
    "LayerRequest",
    "LayerTraining",
    "LearnedFlow",
    "OnePhase",
    "PatchSampler",
    "Posterior",
    "Progress",
    "Regressor",
    "ResidualBlock",
    "SampleModel",
    "SamplerSettings",
    "Scalable",
    "ScaledLayer",
    "Shard",
    "Sizes",
    "Target",
    "Tiling",
    "TrainedFamily",
    "Workshop",
    "completeness",
    "derive_seed",
    "estimate_image",
    "first_patches",
    "fit_pca",
    "generator",
    "held_out_figures",
    "in_float64",
    "invariances",
    "linear_vae",
    "mixed_precision",
    "patch_feed",
    "radial_bands",
    "read_layer",
    "read_network",
    "reconstruction_figures",
    "report_progress",
    "seeded",
    "sigma_nll",
    "soft_clamp",
    "to_device",
]

_HOMES = {
    "invkit.data.patches": ("Domain", "PatchSampler"),
    "invkit.denoisers.loaded": ("AT_ONCE",),
    "invkit.fiber.distance": ("Activation",),
    "invkit.flow.cinn": ("CINN",),
    "invkit.flow.layers": ("soft_clamp",),
    "invkit.flow.table": ("CodeTable",),
    "invkit.images.bands": ("radial_bands",),
    "invkit.parts.code": ("CodeRequest", "CodeTraining"),
    "invkit.parts.config": ("LayerConfig", "SamplerSettings"),
    "invkit.parts.layer": ("LayerTraining",),
    "invkit.parts.layer_file": ("LayerRequest", "LearnedFlow", "read_layer"),
    "invkit.parts.workshop": ("Workshop",),
    "invkit.regressor.regressor": ("Regressor",),
    "invkit.samplers.family": ("Family", "TrainedFamily"),
    "invkit.sampling.base": (
        "FlowModel",
        "ImageDraws",
        "ImageSampler",
        "SampleModel",
        "Scalable",
        "estimate_image",
    ),
    "invkit.sampling.draws": ("invariances",),
    "invkit.sampling.layer": ("ScaledLayer", "Target"),
    "invkit.sampling.tiles": ("Tiling",),
    "invkit.training.engine": ("FitConfig", "FitResult", "Shard"),
    "invkit.training.feed": ("to_device",),
    "invkit.training.optimiser": ("OnePhase",),
    "invkit.training.precision": ("in_float64", "mixed_precision"),
    "invkit.training.progress": ("Progress", "report_progress"),
    "invkit.training.seeds": ("derive_seed", "generator", "seeded"),
    "invkit.vae.completeness": ("completeness",),
    "invkit.vae.decoder": ("Decoder",),
    "invkit.vae.encoder": ("Encoder", "ResidualBlock", "Sizes"),
    "invkit.vae.fitting": ("read_network",),
    "invkit.vae.held_out": ("first_patches", "held_out_figures", "patch_feed", "reconstruction_figures"),
    "invkit.vae.losses": ("sigma_nll",),
    "invkit.vae.pca": ("fit_pca", "linear_vae"),
    "invkit.vae.vae": ("HU_RANGE", "HuVae", "Posterior"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'invkit.samplers' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
