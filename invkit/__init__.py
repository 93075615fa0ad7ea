"""Shows what an image denoiser ignores: splits it at any layer and samples what the layer cannot tell apart.

Every public name stands here and is imported at its first use, so `import invkit` imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from invkit._version import __version__

if TYPE_CHECKING:
    from invkit.analysis.analyze import analyze
    from invkit.analysis.runs import AnalysisResult
    from invkit.analysis.series import SeriesResult, analyze_series
    from invkit.data.images import read_image
    from invkit.data.slices import SliceSet, load_slices
    from invkit.denoisers.loaded import LoadedDenoiser
    from invkit.denoisers.recipe import Adversarial, Perceptual, Recipe
    from invkit.denoisers.spec import Affine, Call, Denoiser, Layer, Preprocessing, Upstream, Weights
    from invkit.errors import (
        ArtifactError,
        CheckFailedError,
        ConfigError,
        DataError,
        DenoiserError,
        DivergedError,
        ImageError,
        InputError,
        InvkitError,
        PluginError,
        ResourceError,
        SplitError,
        UnknownNameError,
        UsageError,
    )
    from invkit.plugins.hookspecs import hookimpl
    from invkit.plugins.load import load
    from invkit.plugins.manager import PluginHost, default_host
    from invkit.plugins.records import Artifact, Backbone, Metric, Sampler, Section, Source
    from invkit.quality.evaluate import Evaluation, evaluate
    from invkit.split.check import SplitReport
    from invkit.split.listing import LayerListing, ListedLayer, list_layers
    from invkit.split.split import Split
    from invkit.workflow.train import train_cinn, train_denoiser, train_vae

__all__ = [
    "Adversarial",
    "Affine",
    "AnalysisResult",
    "Artifact",
    "ArtifactError",
    "Backbone",
    "Call",
    "CheckFailedError",
    "ConfigError",
    "DataError",
    "Denoiser",
    "DenoiserError",
    "DivergedError",
    "Evaluation",
    "ImageError",
    "InputError",
    "InvkitError",
    "Layer",
    "LayerListing",
    "ListedLayer",
    "LoadedDenoiser",
    "Metric",
    "Perceptual",
    "PluginError",
    "PluginHost",
    "Preprocessing",
    "Recipe",
    "ResourceError",
    "Sampler",
    "Section",
    "SeriesResult",
    "SliceSet",
    "Source",
    "Split",
    "SplitError",
    "SplitReport",
    "UnknownNameError",
    "Upstream",
    "UsageError",
    "Weights",
    "__version__",
    "analyze",
    "analyze_series",
    "default_host",
    "evaluate",
    "hookimpl",
    "list_layers",
    "load",
    "load_slices",
    "read_image",
    "train_cinn",
    "train_denoiser",
    "train_vae",
]

_HOMES = {
    "invkit.data.images": ("read_image",),
    "invkit.data.slices": ("SliceSet", "load_slices"),
    "invkit.denoisers.loaded": ("LoadedDenoiser",),
    "invkit.denoisers.recipe": ("Adversarial", "Perceptual", "Recipe"),
    "invkit.denoisers.spec": ("Affine", "Call", "Denoiser", "Layer", "Preprocessing", "Upstream", "Weights"),
    "invkit.errors": tuple(name for name in __all__ if name.endswith("Error")),
    "invkit.analysis.analyze": ("analyze",),
    "invkit.quality.evaluate": ("Evaluation", "evaluate"),
    "invkit.plugins.load": ("load",),
    "invkit.analysis.runs": ("AnalysisResult",),
    "invkit.analysis.series": ("SeriesResult", "analyze_series"),
    "invkit.workflow.train": ("train_cinn", "train_denoiser", "train_vae"),
    "invkit.plugins.hookspecs": ("hookimpl",),
    "invkit.plugins.manager": ("PluginHost", "default_host"),
    "invkit.plugins.records": ("Artifact", "Backbone", "Metric", "Sampler", "Section", "Source"),
    "invkit.split.check": ("SplitReport",),
    "invkit.split.listing": ("LayerListing", "ListedLayer", "list_layers"),
    "invkit.split.split": ("Split",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'invkit' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
