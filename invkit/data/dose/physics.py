"""The physics of dose: attenuation, photons per ray, and the noise of their logarithm."""

__all__ = [
    "ELECTRONIC",
    "WATER",
    "attenuation",
    "bowtie_transmission",
    "draw_noise",
    "poisson_quantile",
    "ray_transmission",
    "tube_current",
]

import math

import torch
from torch import Tensor

from invkit.data.dose.geometry import ScannerGeometry

WATER = 0.0193
"""Attenuation of water at 70 keV, 1/mm: between 0.2059 (60 keV) and 0.1837 cm2/g (80 keV) of NIST's table
(Hubbell and Seltzer, NISTIR 5632). 70 keV is the usual effective energy of 120 kV after a body."""

ELECTRONIC = 3.16
"""Standard deviation of the electronic noise, photons: a variance of 10, as simulation studies often take."""

BOWTIE_RADIUS = 250.0  # mm from the centre of rotation
BOWTIE_EDGE = 0.1  # transmission there
CURRENT_RATIO = 4.0  # largest over smallest tube current
FEW, MOST = 12.0, 40  # a Poisson variable of mean 12 exceeds 40 once in 10^10
FEWEST = 1.0  # photons; below, the logarithm has no meaning
STARVED = 0.25  # relative variance of a count


def attenuation(y: Tensor) -> Tensor:
    """Return the attenuation in 1/mm of values in HU, of the same shape; nothing is less than vacuum."""
    return (WATER * (1 + y / 1000)).clamp(min=0)


def bowtie_transmission(offsets: Tensor) -> Tensor:
    """Return the share of photons that a bowtie filter lets through to rays with these offsets in mm.

    Its thickness follows a circle of 250 mm, from nothing in the centre to a tenth at the edge. This is the
    shape of such filters, not the data of a product.
    """
    depth = 1 - (1 - (offsets.abs() / BOWTIE_RADIUS).clamp(max=1) ** 2).sqrt()
    return torch.exp(math.log(BOWTIE_EDGE) * depth)


def tube_current(integrals: Tensor) -> Tensor:
    """Return the tube current of each view over its mean, shape `(V,)`.

    It goes as the square root of what the thickest ray of the view attenuates, which makes the least noise for
    the dose (Gies et al. 1999), within a factor of 4.

    Args:
        integrals: line integrals p, shape `(V, n)`.
    """
    wanted = 0.5 * integrals.amax(dim=-1)
    current = torch.exp((wanted - wanted.max()).clamp(min=-math.log(CURRENT_RATIO)))
    return current / current.mean()


def ray_transmission(
    integrals: Tensor,
    geometry: ScannerGeometry,
    offsets: Tensor,
    *,
    bowtie: bool = False,
    modulation: bool = False,
) -> Tensor:
    """Return the share of a ray's photons that reach the detector, shape `(V, n)`.

    Args:
        integrals: line integrals p of one slice, shape `(V, n)`, over 180 degrees.
        geometry: the scanner.
        offsets: the rays' distances from the centre of rotation, mm, shape `(n,)`.
        bowtie: put `bowtie_transmission` into the beam.
        modulation: let the tube's current follow `tube_current`.
    """
    share = torch.exp(-integrals)
    if bowtie:
        share = share * bowtie_transmission(offsets).to(share)
    if modulation:
        share = share * _current_at_source(tube_current(integrals), geometry, offsets)
    return share


def draw_noise(
    photons: Tensor, *, dose: float, electronic: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return the noise of line integrals at full and at low dose, each of the shape of `photons`.

    The counts at low dose are a part of those at full dose: a Poisson variable thinned by `dose` leaves two
    independent Poisson variables. So the noise that a lower dose adds, the second result minus the first, is
    uncorrelated with the first, and has the variance (1/dose - 1) / n + electronic^2 (1/dose^2 - 1) / n^2 for
    n >> 1 photons (Yu et al. 2012).

    The logarithm of a noisy count is too low on average. As scanners do, this is corrected, to second order and
    as long as the relative deviation of a count is at most a half. Beyond is photon starvation: counts below
    one are taken for one, and the mean of the noise is not 0.

    Args:
        photons: mean counts at full dose, float32.
        dose: fraction of the full dose, in (0, 1].
        electronic: standard deviation of the electronic noise, photons, the same at any dose.
        generator: source of randomness, on any device.
    """

    def normal() -> Tensor:
        return torch.randn(photons.shape, generator=generator, device=generator.device).to(photons.device)

    first, second = normal(), normal()
    low = poisson_quantile(photons * dose, first)
    full = low + poisson_quantile(photons * (1 - dose), second)
    if electronic > 0:
        shared, own = normal(), normal()
        full = full + electronic * shared
        low = low + electronic * (dose * shared + math.sqrt(1 - dose**2) * own)
    return _log_noise(photons, full, electronic), _log_noise(photons * dose, low, electronic)


def poisson_quantile(mean: Tensor, normal: Tensor) -> Tensor:
    """Return the Poisson variable that stands where `normal` does in the normal distribution, of the same shape.

    So a draw takes one random number, and hardly changes with the mean: rounding on another machine or number
    of threads does not lead to other noise, as it would with a generator that rejects. From 12 on it is the
    expansion of Cornish and Fisher, not rounded to whole numbers; below, the sum of the probabilities.
    """
    root = mean.sqrt()
    count = mean + root * normal + (normal**2 - 1) / 6 + (normal - normal**3) / (72 * root)
    few = mean < FEW
    if bool(few.any()):
        rate, share = mean[few], torch.special.ndtr(normal[few])
        term = torch.exp(-rate)
        total, exact = term.clone(), torch.zeros_like(rate)
        for k in range(1, MOST + 1):
            exact += share > total
            term = term * rate / k
            total += term
        count[few] = exact
    return count


def _log_noise(mean: Tensor, counts: Tensor, electronic: float) -> Tensor:
    """Return what the line integrals of these counts have more than those of their mean."""
    bias = 0.5 * (1 / mean + (electronic / mean) ** 2).clamp(max=STARVED)
    return torch.log(mean / counts.clamp(min=FEWEST)) - bias


def _current_at_source(current: Tensor, geometry: ScannerGeometry, offsets: Tensor) -> Tensor:
    """Return the current of the source that sees each ray, shape `(V, n)`.

    The source of a ray stands a fan angle before its direction, that of the other end a fan angle behind.
    Neighbouring rays are of either kind.
    """
    views = len(current)
    fan = geometry.fan_angle(offsets).to(current)
    side = 1 - 2 * (torch.arange(len(offsets), device=current.device) % 2)
    place = torch.arange(views, device=current.device)[:, None] - side * fan * (views / math.pi)
    before = place.floor()
    weight = place - before
    index = before.long() % views
    return current[index] * (1 - weight) + current[(index + 1) % views] * weight
