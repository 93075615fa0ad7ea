"""How like the images that priors know an image is: its noise, critic score and code beside those of held-out ones."""

__all__ = ["REAL", "Judge", "Placed"]

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invkit import artifacts
from invkit.certificates.plausibility import (
    LIMITS,
    ONE_SIDED,
    Plausible,
    RealImages,
    Traits,
    noise_of,
    texture_of,
)
from invkit.data.patches import PatchSampler
from invkit.data.slices import SliceSet
from invkit.denoisers.loaded import LoadedDenoiser
from invkit.images.flat import Regions, flat_regions
from invkit.sampling.tiles import Tiling
from invkit.training.seeds import derive_seed, generator
from invkit.vae.trained import TrainedVae

REAL = 128  # held-out images behind every quantile
WINDOW = 128  # pixels; larger images are judged on such windows
WINDOWS = 9  # of an image at most
FLAT = 24  # pixels, side of a flat region
BODY = -500.0  # HU
ALIKE = 0.3  # of a window must be body, as of the patches that it is compared with
BATCH = 8
KIND = "real"
VERSION = 1  # of what is measured: a new one lets nobody find the old traits
TRAITS = {"noise": "noise", "texture": "texture", "critic": "critic score", "code_nll": "code"}


@dataclass(frozen=True)
class Placed:
    """Where an image stands among held-out low-dose images.

    Args:
        row: quantiles of its traits, as JSON values.
        real_outside: share of the held-out images that the same rule calls outside.
        images: which images these are, for people.
    """

    row: dict[str, Any]
    real_outside: float
    images: str = ""

    @property
    def inside(self) -> bool:
        """Whether it lies within 1 to 99 % of them in all that is known of it."""
        return bool(self.row["inside"])

    @property
    def known(self) -> tuple[str, ...]:
        """Traits that are known of it, for people."""
        return tuple(label for name, label in TRAITS.items() if self.row[name] is not None)

    @property
    def unlike(self) -> tuple[str, ...]:
        """Traits that lie outside, for people."""
        low, high = LIMITS
        return tuple(
            label
            for name, label in TRAITS.items()
            if self.row[name] is not None
            and (self.row[name] > high or (self.row[name] < low and name not in ONE_SIDED))
        )

    def figures(self) -> dict[str, Any]:
        """Return the figures by their keys."""
        return {
            "inside": self.inside,
            **{name: self.row[name] for name in TRAITS},
            "real": REAL,
            "real_outside": self.real_outside,
            "images": self.images,
            "traits": list(self.known),
        }


@dataclass(frozen=True)
class Judge:
    """Places images among held-out low-dose images. What that needs is computed when the first one is judged, once.

    Args:
        denoiser: f.
        low: the VAE of low-dose images; without it codes are left out, and without a critic the score of that.
        slices: real images are drawn from its test part.
        size: `(H, W)` of the images under test.
        dose: of the low-dose images, as a fraction of the high dose.
        seed: decides which real images.
        keep: folder in which their traits are kept between runs; nothing is kept without it.
    """

    denoiser: LoadedDenoiser
    low: TrainedVae | None
    slices: SliceSet
    size: tuple[int, int]
    dose: float
    seed: int
    keep: Path | None = None

    @cached_property
    def real(self) -> RealImages:
        """The real images' traits."""
        found = artifacts.kept(self.keep, self._request(), self._real)
        return RealImages(Traits(**{name: found[name] for name in TRAITS}), found["regions"])

    @torch.no_grad()
    def _request(self) -> dict[str, Any]:
        """Return what decides the traits: of f, its name and what it makes of one image, for code has no fingerprint."""
        x = 100 * torch.randn(1, 1, *self._window, generator=generator(0, "probe"))
        return {
            "kind": KIND,
            "version": VERSION,
            "denoiser": self.denoiser.sha256,
            "output": artifacts.state_fingerprint({"f": self.denoiser(x)}),
            "vae": None if self.low is None else self.low.sha256,
            "data": self.slices.fingerprint,
            "window": list(self._window),
            "images": REAL,
            "dose": self.dose,
            "seed": self.seed,
        }

    def _real(self) -> dict[str, Tensor]:
        height, width = self._window
        side = max(height, width)
        seed = derive_seed(self.seed, "plausible")
        sampler = PatchSampler(self.slices.part("test"), side, dose=self.dose, seed=seed)
        parts, noise = [], []
        for step in range(-(-REAL // BATCH)):
            images = sampler.batch(step, BATCH).x[..., :height, :width].to(self.denoiser.device)
            traits, rows = self._traits(images, self.denoiser(images), _flat(images))
            parts.append(traits)
            noise.append(rows)
        traits = Traits.joined(parts)
        return {**{name: getattr(traits, name) for name in TRAITS}, "regions": torch.cat(noise)}

    @torch.no_grad()
    def place(self, x: Tensor, f_x: Tensor) -> Placed:
        """Return the quantiles of an image.

        An image larger than 128 x 128 pixels is judged on up to nine windows; each figure is the median over them.

        Args:
            x: the image under test, `(1, 1, H, W)`, HU.
            f_x: f(x), likewise.
        """
        height, width = self._window
        found = []
        for row, column in self._corners(x):
            place = (..., slice(row, row + height), slice(column, column + width))
            traits, _ = self._traits(x[place], f_x[place], _flat(x[place]))
            found.append(self.real.place(traits))
        return Placed(_median(found).rows()[0], self._real_outside, self.slices.description)

    @cached_property
    def _real_outside(self) -> float:
        return self.real.outside

    @property
    def _window(self) -> tuple[int, int]:
        return min(self.size[0], WINDOW), min(self.size[1], WINDOW)

    def _corners(self, x: Tensor) -> list[tuple[int, int]]:
        """Return windows of the image that hold enough of the body, evenly spread; all where none does."""
        height, width = self._window
        rows, columns = (
            list(range(0, total - length + 1, length))
            for total, length in zip(self.size, (height, width), strict=True)
        )
        corners = [(row, column) for row in rows for column in columns]
        body = [
            (row, column)
            for row, column in corners
            if (x[..., row : row + height, column : column + width] > BODY).float().mean() >= ALIKE
        ] or corners
        step = max(1, -(-len(body) // WINDOWS))
        return body[::step]

    @torch.no_grad()
    def _traits(self, images: Tensor, outputs: Tensor, regions: Regions) -> tuple[Traits, Tensor]:
        rows, means = noise_of(images, regions)
        texture = texture_of(images - outputs)
        unknown = torch.full((len(images),), torch.nan, dtype=torch.float64)
        if self.low is None:
            return Traits(texture, means, unknown, unknown), rows
        vae, critic = self.low.vae, self.low.critic
        tiles = Tiling(images.shape[-2], images.shape[-1], vae.patch).cut(images)
        n, count = tiles.shape[:2]
        flat = tiles.flatten(0, 1)
        codes = vae.encode(flat).mean.cpu().double()
        nll = 0.5 * (codes.square().mean(1) + torch.log(torch.tensor(2 * torch.pi)))
        score = unknown if critic is None else critic(vae.scale(flat)).cpu().double().view(n, count).mean(1)
        return Traits(texture, means, score, nll.view(n, count).mean(1)), rows


def _flat(images: Tensor) -> Regions:
    """Return flat regions of low-dose images; none where these are smaller than a region."""
    if min(images.shape[-2:]) < FLAT:
        return Regions(FLAT, (), (), ())
    return flat_regions(images, FLAT)


def _median(found: Sequence[Plausible]) -> Plausible:
    """Return the median over windows of every quantile; windows where it is unknown are left out."""

    def median(values: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(values)).nanmedian(0).values

    first = found[0]
    return Plausible(
        {name: median([one.score[name] for one in found]) for name in first.score},
        {name: median([one.bands[name] for one in found]) for name in first.bands},
    )
