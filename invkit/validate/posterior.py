"""Draws of the posterior, ideal observers and contrast, where they are known: a layer of block means, one without small discs."""

__all__ = ["check_contrast", "check_posterior"]

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from invkit.denoisers.oracles.planted import WithoutDiscs
from invkit.fiber.distance import parts_of
from invkit.fiber.tangent import Tangent
from invkit.images.disc import disc
from invkit.measures.structures.shapes import DISCS
from invkit.noise.covariance import NoiseCovariance
from invkit.posterior.draws import Posterior, sigma_for
from invkit.posterior.observer import detectability
from invkit.posterior.whitened import Whitened
from invkit.split.split import Split
from invkit.tolerance.unit import Unit
from invkit.tolerance.windows import Windows
from invkit.validate.rows import Row, Seeds

SIZE, BLOCK = 32, 2
LEVEL = 20.0  # HU, of white noise
TOLERANCE = 0.3  # repeat scans
DRAWS = 48
RADII = 1.5, 2.5, 4.0, 6.0  # pixels
SMALL = 2  # of the sizes of discs, that are taken out
CONTRASTS = 3.0, 100.0  # HU


def check_posterior(split: Split, seeds: Seeds) -> list[Row]:
    """Return how far draws and observers of a layer of block means are from their closed forms, for white noise.

    A block's mean has the variance L^2 / 4, and is known to sigma S; what the pixels of a block differ by is not known at all. So
    the variance of a pixel is 3/4 L^2 + v with v = (L^2/4) s^2 / (L^2/4 + s^2), and d' the norm of the block means of d over the
    root of L^2/4 + s^2.
    """
    x = 40 + LEVEL * seeds.randn(1, 1, SIZE, SIZE, path="image")
    noise = NoiseCovariance(torch.full((SIZE, SIZE), LEVEL), np.ones_like)
    mean = LEVEL / BLOCK
    (z,) = parts_of(split.phi(x))
    unit = Unit((torch.full_like(z, 2**0.5 * mean),), (0.0,), 0.0)
    windows = Windows((8,), unit)
    sigma = sigma_for(TOLERANCE, windows.elements())
    s = sigma * 2**0.5 * mean
    posterior = Posterior(split, x, x, windows, noise, TOLERANCE, Tangent(split.phi_grad))
    draws = posterior.draw(DRAWS, seed=seeds.number("draws"))
    apart = (draws.first - x).double()
    known = mean**2 * s**2 / (mean**2 + s**2)
    truth = LEVEL**2 - mean**2 + known
    twice = replace(posterior, covariance=noise.scaled(2)).draw(DRAWS, seed=seeds.number("draws"))
    free = _free((twice.first - x).double()).square().mean() / _free(apart).square().mean()
    shapes = torch.stack([disc(SIZE, SIZE, (16.0, 17.0), radius)[None] for radius in RADII])
    at = Whitened(split, x.expand(len(RADII), -1, -1, -1), unit, sigma, noise, posterior.tangent)
    seen = detectability(at, 10 * shapes.to(x))
    (means,) = parts_of(split.phi(10 * shapes.to(x)))
    expected = means.double().flatten(1).norm(dim=1) / (mean**2 + s**2) ** 0.5
    return [
        Row(
            "posterior.spread",
            "relative error of the spread of draws",
            abs(float((apart.square().mean() / truth).sqrt()) - 1),
            0.02,
        ),
        Row(
            "posterior.prior",
            "relative error of the variance of what the layer does not see, for twice the noise",
            abs(float(free) / 2 - 1),
            0.01,
        ),
        Row(
            "posterior.certified",
            "share of draws that keep the tolerance in every window",
            float((draws.distances <= TOLERANCE).double().mean()),
            0.99,
            ">=",
        ),
        Row(
            "posterior.detectability",
            "largest relative error of the detectability of discs",
            float((seen.in_layer / expected - 1).abs().max()),
            0.02,
        ),
    ]


def check_contrast(seeds: Seeds) -> list[Row]:
    """Return how far the contrast that f keeps is from 0 for discs that f takes out, and from 1 for larger ones."""
    place = torch.tensor([[16, 17]])
    shapes = torch.cat([shape.at(place, (SIZE, SIZE)) for shape in DISCS]).double()
    split = Split(WithoutDiscs(shapes, SMALL), "out")
    x = 40 + LEVEL * seeds.randn(1, 1, SIZE, SIZE, path="image")
    truth = [0.0] * SMALL + [1.0] * (len(DISCS) - SMALL)
    worst = 0.0
    for contrast in CONTRASTS:
        for shape, d, expected in zip(DISCS, shapes.split(1), truth, strict=True):
            change = split.denoiser(x + contrast * d) - split.denoiser(x)
            worst = max(worst, float((shape.kept(change, contrast * d, d) - expected).abs().max()))
    return [
        Row(
            "contrast",
            "largest error of the part of the contrast that is kept, of discs below a size and above it",
            worst,
            0.01,
        )
    ]


def _free(images: Tensor) -> Tensor:
    """Return what the pixels of blocks differ by from their means."""
    means = torch.nn.functional.avg_pool2d(images, BLOCK)
    return images - means.repeat_interleave(BLOCK, 2).repeat_interleave(BLOCK, 3)
