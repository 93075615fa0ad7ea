"""A layer of a bundled denoiser at a small part of the default image, and the same in float64."""

import copy

import torch

from invkit.analysis.subject import choose_subject
from invkit.denoisers.loaded import LoadedDenoiser
from invkit.fiber.tangent import Tangent
from invkit.noise.covariance import NoiseCovariance
from invkit.plugins.load import load
from invkit.split.split import Split
from invkit.tolerance.layer import TolerancedLayer

NOISE = 53.0  # HU


def small_layer(model, name, side):
    """Return a layer with its tolerance at `(side, side)` pixels of the default image, and Phi in float64."""
    f = load(model)
    x = choose_subject(None, seed=0).x[..., 52 : 52 + side, 40 : 40 + side].contiguous()
    split = Split(f, name)
    noise = NoiseCovariance(torch.full((side, side), NOISE))
    layer = TolerancedLayer.of(split, x, f(x), noise, seed=0, tangent=Tangent(split.phi_grad))
    exact = LoadedDenoiser(
        f.spec, copy.deepcopy(f.network).double(), weights_tag=f.weights_tag, preprocessing=f.preprocessing
    )
    return layer, Split(exact, name).phi_grad
