"""Physical dose reduction: noise drawn on the rays of a scanner, reconstructed, and added to a slice."""

__all__ = [
    "SIMULATION_VERSION",
    "calibrate_photons",
    "noise_deviation",
    "noise_realisations",
    "simulate_dose",
]

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from invkit.data.dose.backprojection import backproject, filter_rays, filter_taps
from invkit.data.dose.geometry import ScannerGeometry
from invkit.data.dose.image import SOFT_TISSUE, estimate_noise
from invkit.data.dose.kernel import Kernel, chosen_kernel
from invkit.data.dose.physics import WATER, attenuation, draw_noise, ray_transmission
from invkit.data.dose.projection import project
from invkit.data.dose.scanner import SCANNER, Scanner
from invkit.data.dose.texture import noise_power
from invkit.errors import ImageError, UsageError
from invkit.statistics.intervals import number
from invkit.training.seeds import generator

# Part of every fingerprint: change it with every change that alters a pixel.
SIMULATION_VERSION = 1

PART = 4  # one of so many rays and directions is projected: what noise depends on changes slowly over them
MAP = 64  # largest side of the map on which the noise of a slice is predicted
BLUR = 1.5  # pixels, of the high-pass filter of `estimate_noise`
LEAST_NOISE = 0.1  # HU


@dataclass(frozen=True)
class _Scan:
    """One slice grid on one scanner."""

    size: tuple[int, int]
    spacing: tuple[float, float]
    scanner: Scanner

    @property
    def geometry(self) -> ScannerGeometry:
        """Of the scanner."""
        return self.scanner.geometry

    @property
    def kernel(self) -> Kernel:
        """The reconstruction kernel."""
        return chosen_kernel(self.scanner.kernel)

    def integrals(self, y: Tensor) -> Tensor:
        """Return the line integrals of one slice `(1, 1, H, W)` on one of `PART` rays and directions."""
        step = PART * self.geometry.ray_spacing
        return project(
            attenuation(y),
            self.spacing,
            self.geometry.angles(PART),
            self.geometry.offsets(self.size, self.spacing, PART),
            step=step,
        )[0]

    def transmission(self, integrals: Tensor, part: int) -> Tensor:
        """Return the share of photons that each ray lets through, for line integrals on one of `part` rays."""
        offsets = self.geometry.offsets(self.size, self.spacing, part)
        return ray_transmission(
            integrals,
            self.geometry,
            offsets,
            bowtie=self.scanner.bowtie,
            modulation=self.scanner.modulation,
        )

    def counts(self, integrals: Tensor, photons: float) -> Tensor:
        """Return the mean photons that each ray leaves at full dose, shape `(V, n)`."""
        rays = len(self.geometry.offsets(self.size, self.spacing))
        fine = interpolate(
            integrals[None, None],
            (len(self.geometry.angles()), rays),
            mode="bilinear",
            align_corners=False,
        )[0, 0]
        return photons * self.transmission(fine, 1)

    def ray_noise(self, counts: Tensor, dose: float, seed: int, image: int) -> tuple[Tensor, Tensor]:
        """Return the noise of all rays at full and at low dose, each of shape `(V, n)`."""
        # The generator is the CPU's, so that a seed means the same noise on every device.
        rng = generator(seed, "dose", image)
        return draw_noise(counts, dose=dose, electronic=self.scanner.electronic, generator=rng)

    def reconstruct(self, noise: Tensor) -> Tensor:
        """Return the noise in HU, shape `(B, 1, H, W)`, of noise of line integrals, shape `(B, V, n)`."""
        spacing = self.geometry.ray_spacing
        total = backproject(filter_rays(noise, spacing, self.kernel), self.size, self.spacing, spacing)
        return total * (math.pi / noise.shape[1] * 1000 / WATER)

    def photons(self, y: Tensor, integrals: Tensor, noise: float | None) -> float:
        """Return the photons per ray that make `noise` HU in the soft tissue of y, or what is estimated there."""
        return self._photons(y, self._means(integrals), noise)

    def deviation(self, y: Tensor, noise: float | None) -> Tensor:
        """Return the standard deviation of the noise at every pixel, shape `(H, W)`, HU, for photons as above."""
        means = self._means(self.integrals(y))
        photons = self._photons(y, means, noise)
        quantum, electronic = means[:, 0]
        variance = self._gain() * (quantum / photons + self.scanner.electronic**2 * electronic / photons**2)
        return interpolate(variance[None, None], self.size, mode="bilinear", align_corners=False)[0, 0].sqrt()

    def _means(self, integrals: Tensor) -> Tensor:
        """Return the means over the rays through each pixel of a coarse map of 1 / t and 1 / t^2, shape `(2, 1, h, w)`.

        t is the share of photons that a ray lets through.
        """
        few = 1 / self.transmission(integrals, PART)
        spacing = PART * self.geometry.ray_spacing
        size = (min(MAP, self.size[0]), min(MAP, self.size[1]))
        coarse = (self.size[0] * self.spacing[0] / size[0], self.size[1] * self.spacing[1] / size[1])
        return backproject(torch.stack([few, few**2]), size, coarse, spacing) / len(few)

    def _photons(self, y: Tensor, means: Tensor, noise: float | None) -> float:
        tissue = _soft_tissue(y, (means.shape[-2], means.shape[-1]))
        quantum, electronic = (float(mean[0][tissue].median()) for mean in means)
        wanted = self._noise_of(y, (quantum / means[:1]).sqrt()) if noise is None else noise
        # wanted^2 = gain (quantum / photons + scanner.electronic^2 electronic / photons^2)
        half = self._gain() * quantum / wanted**2 / 2
        return half + math.sqrt(half**2 + self._gain() * self.scanner.electronic**2 * electronic / wanted**2)

    def _gain(self) -> float:
        """Return the variance in HU^2 that unit variance on all rays becomes in the image."""
        taps = filter_taps(
            len(self.geometry.offsets(self.size, self.spacing)),
            self.geometry.ray_spacing,
            self.kernel,
        )
        # Linear interpolation at an offset w gives (1 - w) a + w b; the mean over w of its variance.
        power = float((2 * taps.square().sum() + (taps * taps.roll(1)).sum()) / 3)
        return power * (math.pi * 1000 / WATER) ** 2 / len(self.geometry.angles())

    def _noise_of(self, y: Tensor, evening: Tensor) -> float:
        """Return the noise in the soft tissue of one slice in HU, for noise of this kernel on these pixels.

        `estimate_noise` takes the noise for the same everywhere, and of one texture in pixels. So the slice is
        multiplied by what makes its noise even, a map, and the estimate is corrected for the texture.
        """
        even = y * interpolate(evening, self.size, mode="bilinear", align_corners=False)
        frequency = np.fft.fftfreq(256)
        pixels = np.hypot(frequency[:, None], frequency[None, :])
        per_mm = np.hypot(frequency[:, None] / self.spacing[0], frequency[None, :] / self.spacing[1])
        power = self.kernel.power(torch.from_numpy(per_mm)).numpy()
        noise = estimate_noise(even) * _kept(noise_power(pixels), pixels) / _kept(power, pixels)
        if noise < LEAST_NOISE:
            raise ImageError(
                f"the slice contains too little noise to infer its dose from ({number(noise)} HU estimated). "
                "State the photons per ray (--photons)"
            )
        return noise


def simulate_dose(
    y: Tensor,
    spacing: tuple[float, float],
    *,
    dose: float,
    seed: int,
    photons: float | None = None,
    noise: float | None = None,
    scanner: Scanner = SCANNER,
) -> Tensor:
    """Return full-dose slices as they would look at a fraction of their dose, shape `(B, 1, H, W)`, HU.

    What a lower dose would add to the noise of each ray is drawn (`draw_noise`), reconstructed by filtered
    back-projection, and added to y: the noise alone, so that y keeps its own resolution and texture. The image
    must show the whole body: what lies outside of it attenuates nothing.

    Args:
        y: full-dose slices, shape `(B, 1, H, W)`, HU.
        spacing: distance of rows and of columns, mm.
        dose: fraction of the full dose, in (0, 1]; 1 changes nothing.
        seed: decides the noise, together with the index of an image in the batch.
        photons: of an unattenuated ray at full dose; by default `calibrate_photons` of each slice.
        noise: standard deviation of the full-dose noise in soft tissue, HU, to calibrate on; by default
            estimated from each slice.
        scanner: whose noise it is.

    Raises:
        UsageError: an argument is out of its range, or `photons` and `noise` are both given.
        ImageError: y is not of shape `(B, 1, H, W)`, or holds no noise to calibrate on.
    """
    scan = _scan(y, spacing, scanner)
    _check(dose, photons, noise)
    if dose == 1 or not len(y):
        return y.clone()
    full, low = _draw(y, scan, dose, seed, photons, noise)
    return y + scan.reconstruct(low - full).to(y)


def noise_realisations(
    image: Tensor,
    spacing: tuple[float, float],
    *,
    dose: float,
    seeds: Sequence[int],
    noise: float,
    clean: bool,
    scanner: Scanner = SCANNER,
) -> tuple[Tensor | None, Tensor]:
    """Return several realisations of one slice's noise: of full dose, and what the lower dose adds; `(n, 1, H, W)`, HU.

    What the lower dose adds is that of `simulate_dose` for each seed, at a third of the cost: the rays are traced once, and all
    is reconstructed together.

    Args:
        image: the slice, shape `(1, 1, H, W)`, HU.
        spacing: distance of rows and of columns, mm.
        dose: fraction of the full dose, in (0, 1).
        seeds: one for each realisation.
        noise: standard deviation of the full-dose noise in soft tissue, HU.
        clean: the slice has no noise; else that of full dose is in it already, and the first result is `None`.
        scanner: whose noise it is.

    Raises:
        UsageError: an argument is out of its range.
        ImageError: the image is not of shape `(1, 1, H, W)`.
    """
    scan = _scan(image, spacing, scanner)
    _check(dose, None, noise)
    integrals = scan.integrals(image)
    counts = scan.counts(integrals, scan.photons(image, integrals, noise))
    drawn = [scan.ray_noise(counts, dose, seed, 0) for seed in seeds]
    added = [low - full for full, low in drawn]
    rays = torch.stack([full for full, _ in drawn] + added if clean else added)
    parts = torch.split(scan.reconstruct(rays).to(image), len(drawn))
    return (parts[0], parts[1]) if clean else (None, parts[0])


def calibrate_photons(
    y: Tensor,
    spacing: tuple[float, float],
    *,
    noise: float | None = None,
    scanner: Scanner = SCANNER,
) -> tuple[float, ...]:
    """Return the photons per unattenuated ray at which each slice would have the noise that it has.

    The variance that quantum and electronic noise of all rays leave at a pixel is known in closed form but for
    the photons. They are chosen so that its median over soft tissue is the square of the noise. That is
    estimated from the slice (`estimate_noise`) by what a high-pass filter leaves, for noise with the texture of
    this kernel and these pixels.

    Args:
        y: slices, shape `(B, 1, H, W)`, HU.
        spacing: distance of rows and of columns, mm.
        noise: standard deviation of the noise in soft tissue, HU; by default estimated from each slice.
        scanner: whose noise it is.

    Raises:
        UsageError: an argument is out of its range.
        ImageError: y is not of shape `(B, 1, H, W)`, or holds no noise.
    """
    scan = _scan(y, spacing, scanner)
    _check(1.0, None, noise)
    return tuple(scan.photons(image[None], scan.integrals(image[None]), noise) for image in y.unbind(0))


def noise_deviation(
    image: Tensor,
    spacing: tuple[float, float],
    *,
    noise: float | None = None,
    scanner: Scanner = SCANNER,
) -> Tensor:
    """Return the standard deviation of the noise that this scanner makes at every pixel of a slice, shape `(H, W)`, HU.

    It is the variance of all rays, propagated to the pixels in closed form, on a map of at most 64 pixels a side: what the mean
    over draws comes to, without drawing any. The photons are those of `calibrate_photons`.

    Args:
        image: the slice, shape `(1, 1, H, W)`, HU.
        spacing: distance of rows and of columns, mm.
        noise: median of the deviation over soft tissue, HU; by default estimated from the slice, for noise of this kernel.
        scanner: whose noise it is.

    Raises:
        UsageError: an argument is out of its range.
        ImageError: the image is not of shape `(1, 1, H, W)`, or holds no noise to calibrate on.
    """
    scan = _scan(image, spacing, scanner)
    _check(1.0, None, noise)
    return scan.deviation(image, noise)


def _draw(
    y: Tensor, scan: _Scan, dose: float, seed: int, photons: float | None, noise: float | None
) -> tuple[Tensor, Tensor]:
    """Return the rays' noise of each slice at full and at low dose, each of shape `(B, V, n)`."""
    drawn = []
    for index, image in enumerate(y.unbind(0)):
        integrals = scan.integrals(image[None])
        level = scan.photons(image[None], integrals, noise) if photons is None else photons
        drawn.append(torch.stack(scan.ray_noise(scan.counts(integrals, level), dose, seed, index)))
    full, low = torch.stack(drawn, dim=1).unbind(0)
    return full, low


def _scan(y: Tensor, spacing: tuple[float, float], scanner: Scanner) -> _Scan:
    if y.ndim != 4 or y.shape[1] != 1:
        raise ImageError(f"images need the shape (B, 1, H, W), got {tuple(y.shape)}")
    if len(spacing) != 2 or not all(math.isfinite(side) and side > 0 for side in spacing):
        raise UsageError(f"spacing is the row and column spacing in mm, both above 0, got {spacing!r}")
    return _Scan((int(y.shape[-2]), int(y.shape[-1])), (spacing[0], spacing[1]), scanner)


def _check(dose: float, photons: float | None, noise: float | None) -> None:
    if not 0 < dose <= 1:
        raise UsageError(f"dose is a fraction in (0, 1], got {dose!r}; a quarter of the dose is 0.25")
    if photons is not None and noise is not None:
        raise UsageError("give photons or the noise in HU, not both: one follows from the other")
    for name, value in (("photons", photons), ("noise", noise)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UsageError(f"{name} is a number above 0, got {value!r}")


def _soft_tissue(y: Tensor, size: tuple[int, int]) -> Tensor:
    """Return where a map of this size is soft tissue, else where it is body, else all of it."""
    means = adaptive_avg_pool2d(y.to(torch.float32), size)[0, 0]
    for mask in ((means > SOFT_TISSUE[0]) & (means < SOFT_TISSUE[1]), means > -900):
        if int(mask.sum()) >= 4:
            return mask
    return torch.ones_like(means, dtype=torch.bool)


def _kept(power: np.ndarray, frequency: np.ndarray) -> float:
    """Return the standard deviation that the high-pass filter keeps of unit noise with this power."""
    response = 1 - np.exp(-2 * (math.pi * BLUR * frequency) ** 2)
    return float(np.sqrt((power * response**2).sum() / power.sum()))
