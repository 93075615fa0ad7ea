"""What a code cannot hold of an image, which no model that draws in it can show; and what it leaves open by itself."""

__all__ = ["DISTORTION", "CodeLimits", "code_limits", "lost_power", "noise_rate"]

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

from invkit.images.bands import radial_bands
from invkit.noise.covariance import NoiseCovariance
from invkit.sampling.draws import invariances
from invkit.sampling.tiles import Tiling
from invkit.training.precision import in_float64
from invkit.training.seeds import derive_seed
from invkit.vae.vae import VAE

DISTORTION = 2.0  # HU, to which the noise is to be held
DRAWS = 50
AT_ONCE = 5

COARSE = 2  # bands, of ten up to 0.5 cycles per pixel: structures of 10 pixels and more


def lost_power(x: Tensor, reconstruction: Tensor, scans: Tensor) -> float:
    """Return the largest share of the power beyond noise that a reconstruction loses, of structures of 10 pixels and more.

    In each radial band below 0.1 cycles per pixel it is `max(0, R - N) / (X - N)`: R, X and N are the power of x less its
    reconstruction, of x, and of noise; 0 where x holds nothing but noise.

    Args:
        x: image, `(1, 1, H, W)`, HU; at least 20 pixels a side.
        reconstruction: D(E(x)), the same shape.
        scans: differences of two noise realisations, `(m, 1, H, W)`, HU.
    """
    power, rest, noise = (
        radial_bands(images, window=True).cpu().double().mean(0).numpy()[:COARSE]
        for images in (x, x - reconstruction, scans)
    )
    noise = noise / 2
    signal = power - noise
    share = np.where(signal > 0, np.maximum(rest - noise, 0) / np.maximum(signal, 1e-12), 0.0)
    return float(share.max())


@dataclass(frozen=True)
class CodeLimits:
    """What the code of an image leaves open and what it holds, without any denoiser.

    Args:
        posterior: spread of D of draws of q(code | x), HU: what a model's samples vary by at least, whatever the layer.
        held: nats in the codes of all tiles, KL(q(code | x) || N(0, 1)).
        needed: nats that it takes to hold the image's noise to within 2 HU.
    """

    posterior: float
    held: float
    needed: float


@torch.no_grad()
def code_limits(vae: VAE, x: Tensor, noise: NoiseCovariance, *, seed: int) -> CodeLimits:
    """Return what the codes of an image leave open and hold.

    Args:
        vae: E and D of the images that are sampled.
        x: the image, `(1, 1, H, W)`, HU.
        noise: of the image.
        seed: of the draws.
    """
    tiling = Tiling(x.shape[-2], x.shape[-1], vae.patch)
    found = vae.encode(tiling.cut(x)[0])
    deviation = (0.5 * found.log_var).exp()
    own = derive_seed(seed, "posterior of the code")
    middle = vae.decode(found.mean)[None]
    # Moments about the code's mean, and few draws at a time: all of those of a slice would take hundreds of MB.
    centre = in_float64(tiling.blend_draws(middle, middle))
    total = squares = torch.zeros_like(centre)
    for start in range(0, DRAWS, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, DRAWS))
        xi = [invariances(own, 0, tile, numbers, vae.d).to(deviation) for tile in range(len(tiling))]
        codes = found.mean + deviation * torch.stack(xi, dim=1)
        drawn = torch.stack([vae.decode(code) for code in codes])
        off = in_float64(tiling.blend_draws(drawn, middle)) - centre
        total = total + off.sum(0, keepdim=True)
        squares = squares + off.square().sum(0, keepdim=True)
    variance = (squares - total.square() / DRAWS) / (DRAWS - 1)
    spread = float(variance.mean().sqrt())
    return CodeLimits(spread, float(in_float64(found.kl()).sum()), noise_rate(noise, DISTORTION))


def noise_rate(noise: NoiseCovariance, distortion: float) -> float:
    """Return the least nats that hold the noise to within a root mean square error in HU.

    Reverse water-filling over the noise's spectrum (Cover and Thomas 2006, theorem 10.3.3), with its mean variance: the rate is the
    sum over frequencies of ln(power / water) / 2 where that is positive, at the water level whose mean distortion is as wanted.
    """
    height, width = noise.size
    power = noise.gain.cpu().double().square().numpy() * float(in_float64(noise.deviation).square().mean())
    count = np.full(power.shape, 2.0)
    count[:, 0] = 1.0
    if width % 2 == 0:
        count[:, -1] = 1.0

    def mean_distortion(water: float) -> float:
        return float((np.minimum(power, water) * count).sum() / (height * width))

    if mean_distortion(math.inf) <= distortion**2:
        return 0.0
    water = brentq(lambda level: mean_distortion(level) - distortion**2, 0.0, float(power.max()))
    return float((np.log(np.maximum(power / water, 1.0)) * count).sum() / 2)
