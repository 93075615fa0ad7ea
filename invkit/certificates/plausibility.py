"""Whether an image looks like real low-dose images: its traits as quantiles of those of real ones.

An image becomes a few numbers, its traits, and each is placed among those of held-out real images of the same size.
"""

__all__ = ["LIMITS", "ONE_SIDED", "Plausible", "RealImages", "Traits", "quantiles"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from invkit.errors import InputError
from invkit.images.bands import radial_bands
from invkit.images.flat import Regions, noise_in

LIMITS = (0.01, 0.99)
BANDS, FLAT_BANDS = 10, 5
LEAST = 100  # real images, behind a quantile of 1 %
ONE_SIDED = ("texture", "noise")  # distances of spectra: only large ones are unlike


@dataclass(frozen=True)
class Traits:
    """Numbers by which real images are recognised; NaN where unknown.

    Args:
        texture: log10 of the power in ten radial bands of what the denoiser takes away, image - f(image), `(n, 10)`, HU^2 px^2.
        noise: the same in five bands of the noise in flat regions of soft tissue, without its trend: the noise power spectrum
            (Siewerdsen, Cunningham, Jaffray 2002, Med Phys 29(11):2655), `(n, 5)`.
        critic: score of the critic, `(n,)`.
        code_nll: -log p of the image's code under the VAE's prior N(0, 1), nats per dimension, `(n,)`.
    """

    texture: Tensor
    noise: Tensor
    critic: Tensor
    code_nll: Tensor

    @classmethod
    def joined(cls, parts: Sequence["Traits"]) -> "Traits":
        """Return the traits of several sets of images as of one."""
        return cls(
            *(
                torch.cat([getattr(part, name) for part in parts])
                for name in ("texture", "noise", "critic", "code_nll")
            )
        )


def texture_of(difference: Tensor) -> Tensor:
    """Return log10 of the power by band of image - f(image), `(n, 10)`; difference: `(n, 1, H, W)`, HU."""
    return _log(radial_bands(difference, BANDS, window=True))


def noise_of(images: Tensor, regions: Regions) -> tuple[Tensor, Tensor]:
    """Return log10 of the noise power spectrum by band: of each region `(r, 5)`, and the mean of each image `(n, 5)`.

    Args:
        images: `(n, 1, H, W)`, HU; the mean is not a number for those without a flat region.
        regions: flat regions of them.
    """
    means = torch.full((len(images), FLAT_BANDS), torch.nan, dtype=torch.float64)
    if not len(regions):
        return means[:0], means
    rows = _log(radial_bands(noise_in(images, regions), FLAT_BANDS, window=True))
    owner = torch.tensor(regions.image)
    for index in sorted(set(regions.image)):
        means[index] = rows[owner == index].mean(0)
    return rows, means


def _log(power: Tensor) -> Tensor:
    # What has no power in a band is at the left of everything real, not a fault.
    return power.cpu().double().clamp(min=1e-12).log10()


def quantiles(values: Tensor, real: Tensor) -> Tensor:
    """Return the quantiles of values among real ones, in (0, 1): (less + equal / 2 + 1/2) / (n + 1).

    Values beyond all real ones get 1 / (2 n + 2) or its complement; not a number stays so.

    Args:
        values: `(k, ...)`.
        real: `(n, ...)`; what is not a number among them is left out.

    Raises:
        InputError: fewer than 100 real ones are known; then all would be not a number.
    """
    known = real[~real.isnan().flatten(1).any(1)] if real.ndim > 1 else real[~real.isnan()]
    if len(known) < LEAST:
        raise InputError(f"quantiles of 1 % need at least {LEAST} real images, got {len(known)}")
    less = (known[None] < values[:, None]).sum(1)
    equal = (known[None] == values[:, None]).sum(1)
    found = (less + 0.5 * equal + 0.5) / (len(known) + 1)
    return found.double().masked_fill(values.isnan(), torch.nan)


def _distance(log: Tensor, real: Tensor) -> Tensor:
    """Return the Mahalanobis distance of spectra `(n, k)` from real ones `(m, k)`, over the root of k, `(n,)`.

    Bands of one image rise and fall together with its dose, so that only the covariance tells a wrong shape from another dose.
    """
    centred = real - real.mean(0)
    covariance = centred.T @ centred / (len(real) - 1)
    ridge = 1e-6 * covariance.diagonal().mean() + 1e-12
    factor = torch.linalg.cholesky(covariance + ridge * torch.eye(len(covariance), dtype=real.dtype))
    white: Tensor = torch.linalg.solve_triangular(factor, (log - real.mean(0)).T, upper=False)
    return white.square().mean(0).sqrt()


@dataclass(frozen=True)
class Plausible:
    """Quantiles of images' traits among real ones, one row per image.

    Args:
        score: by the name of the trait, `(n,)`. For the two spectra it is the quantile of their distance from the mean real
            spectrum (Mahalanobis 1936), so that a wrong shape counts as well as a wrong level.
        bands: quantiles of each band, `(n, k)`, of `texture` and `noise`.
    """

    score: Mapping[str, Tensor]
    bands: Mapping[str, Tensor]

    @property
    def inside(self) -> Tensor:
        """Which images lie within 1 to 99 % of real ones in all that is known of them, `(n,)`."""
        low, high = LIMITS
        fits = [
            value.isnan() | ((value <= high) & ((value >= low) | (name in ONE_SIDED)))
            for name, value in self.score.items()
        ]
        return torch.stack(fits).all(0)

    def rows(self) -> list[dict[str, Any]]:
        """Return one JSON value for each image; `null` for what is unknown."""
        inside = self.inside
        return [
            {
                "inside": bool(inside[k]),
                **{name: _known(value[k]) for name, value in self.score.items()},
                **{f"{name}_bands": [_known(one) for one in value[k]] for name, value in self.bands.items()},
            }
            for k in range(len(inside))
        ]


def _known(value: Tensor) -> float | None:
    return None if bool(value.isnan()) else round(float(value), 4)


@dataclass(frozen=True)
class RealImages:
    """What real low-dose images look like.

    Args:
        traits: of at least 100 held-out ones.
        noise: log10 of the noise power spectrum of every flat region in them, `(r, 5)`. An image's mean over its regions is
            placed among single regions, which scatter more: a quantile errs towards the middle.
    """

    traits: Traits
    noise: Tensor

    def place(self, images: Traits) -> Plausible:
        """Return the quantiles of images among the real ones.

        Raises:
            InputError: there are fewer than 100 real images.
        """
        score: dict[str, Tensor] = {}
        bands: dict[str, Tensor] = {}
        for name in ("texture", "noise"):
            known = self.noise if name == "noise" else self.traits.texture
            found = getattr(images, name)
            if name == "noise" and len(known) < LEAST:
                # Too few flat regions in the held-out images: nothing can be said of this trait.
                score[name], bands[name] = found[:, 0] * torch.nan, found * torch.nan
                continue
            score[name] = quantiles(_distance(found, known), self._apart[name])
            bands[name] = quantiles(found, known)
        for name in ("critic", "code_nll"):
            real, found = getattr(self.traits, name), getattr(images, name)
            unknown = bool(real.isnan().all())
            score[name] = found * torch.nan if unknown else quantiles(found, real)
        return Plausible(score, bands)

    @cached_property
    def _apart(self) -> dict[str, Tensor]:
        """Distance of each real spectrum from all others, leaving it out, as for an image under test."""
        return {
            name: torch.cat(
                [_distance(real[k : k + 1], torch.cat([real[:k], real[k + 1 :]])) for k in range(len(real))]
            )
            for name, real in (("texture", self.traits.texture), ("noise", self.noise))
            if len(real) >= LEAST
        }

    @property
    def outside(self) -> float:
        """Share of the real images themselves that the same rule would call outside, each counted among the real ones."""
        return float((~self.place(self.traits).inside).double().mean())
