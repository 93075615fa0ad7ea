import importlib
import subprocess
import sys

import pytest

import invkit

PUBLIC = [
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


def test_the_export_list_is_this():
    assert invkit.__all__ == sorted(PUBLIC)
    assert set(PUBLIC) <= set(dir(invkit))


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_what_its_home_calls_so(name):
    value = getattr(invkit, name)
    assert value is not None
    if hasattr(value, "__qualname__"):
        assert getattr(importlib.import_module(value.__module__), name) is value


def test_every_error_that_a_user_can_cause_is_an_invkit_error():
    for name in PUBLIC:
        if name.endswith("Error"):
            assert issubclass(getattr(invkit, name), invkit.InvkitError)


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'invkit' has no attribute 'analyse'"):
        _ = invkit.analyse


def test_importing_invkit_and_describing_a_denoiser_imports_no_torch():
    code = (
        "import sys, invkit; invkit.Denoiser('x', len, invkit.Affine(0.0, 1.0)); invkit.hookimpl; "
        "invkit.Metric; invkit.InvkitError; invkit.default_host; "
        "print(sorted({'torch', 'numpy', 'pydantic', 'matplotlib'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
