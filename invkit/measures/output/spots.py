"""Places in one tissue, cut out of f(x) with the noise that a scan of them has: what the output is measured on."""

__all__ = ["RADII", "Spots", "reach_of", "spots_of"]

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from invkit.denoisers.loaded import PIXELS_AT_ONCE, LoadedDenoiser
from invkit.images.disc import disc
from invkit.images.tissue import Tissue, by_area, places_for
from invkit.noise.covariance import NoiseCovariance
from invkit.tolerance.layer import TolerancedLayer
from invkit.training.seeds import derive_seed, generator

RADII = (1.0, 2.0, 4.0, 8.0)  # pixels, of discs
FARTHEST = 23  # pixels around a disc's centre, that are looked at
STEP = 8  # of sides of what is cut out, at which networks are fast


@dataclass(frozen=True)
class Spots:
    """Places of one image.

    Args:
        denoiser: f.
        images: what is around each place in f(x), the image without its noise as far as it is known, `(P, 1, h, w)`, HU.
        centres: of the places there, rows and columns, `(P, 2)`.
        covariance: of the noise of each.
        frame: pixels along the border in which padding reaches f.
        radius: of the largest disc that there is room for, pixels.
        tissue: where they lie.
        whole: whether f sees all of the image everywhere, so that no less than all of it can be cut out.
    """

    denoiser: LoadedDenoiser
    images: Tensor
    centres: Tensor
    covariance: NoiseCovariance
    frame: int
    radius: float
    tissue: Tissue
    whole: bool

    @property
    def reach(self) -> int:
        """Pixels around each centre that no padding reaches."""
        return reach_of(self.radius)

    def noise(self, draws: int, seed: int) -> Iterator[Tensor]:
        """Yield noise of one scan after the other, `(P, 1, h, w)`, HU."""
        numbers = generator(seed, "noise of the output")
        for _ in range(draws):
            yield self.covariance.draws(len(self.images), numbers)

    def output(self, images: Tensor) -> Tensor:
        """Return f of images like these."""
        at_once = max(1, PIXELS_AT_ONCE // images[0].numel())
        return torch.cat([self.denoiser(one) for one in images.split(at_once)])

    def disc(self, radius: float) -> Tensor:
        """Return a disc of 1 HU at each place as the image's kernel shows it, `(P, 1, h, w)`."""
        rows, columns = self.images.shape[-2:]
        shapes = [disc(rows, columns, (row, column), radius)[None] for row, column in self.centres.tolist()]
        return self.covariance.blurred(torch.stack(shapes).to(self.images))

    def near(self, reach: int) -> tuple["Spots", list[tuple[slice, slice]]]:
        """Return the same places with less around them, as far as f needs for so many pixels, and where it is."""
        if self.whole:
            rows, columns = self.images.shape[-2:]
            return self, [(slice(0, rows), slice(0, columns))] * len(self.images)
        size = (self.images.shape[-2], self.images.shape[-1])
        cuts = [_cut(centre, reach + self.frame, size, self.denoiser) for centre in self.centres.tolist()]
        corners = torch.tensor([[rows.start, columns.start] for rows, columns in cuts])
        return self._at(cuts, self.centres - corners), cuts

    def _at(self, cuts: Sequence[tuple[slice, slice]], centres: Tensor) -> "Spots":
        return Spots(
            self.denoiser,
            torch.stack([image[..., r, c] for image, (r, c) in zip(self.images, cuts, strict=True)]),
            centres,
            self.covariance.cropped(
                torch.stack([d[..., r, c] for d, (r, c) in zip(self.covariance.deviation, cuts, strict=True)])
            ),
            self.frame,
            self.radius,
            self.tissue,
            self.whole,
        )


def reach_of(radius: float) -> int:
    """Return how many pixels around its centre an observer looks at for a disc."""
    return min(FARTHEST, math.ceil(3 * radius) + 3)


def spots_of(layers: Sequence[TolerancedLayer], count: int, *, seed: int) -> list[Spots]:
    """Return places in the commonest tissue that has any, for discs as large as there is room for.

    Args:
        layers: any layer, or the identity, at each image; its frame is that of f, too.
        count: places wanted in each image.
        seed: of the choice.
    """
    for tissue in by_area([layer.x[(..., *layer.frame.interior)] for layer in layers]):
        for radius in sorted(RADII, reverse=True):
            found = [
                spots
                for image, layer in enumerate(layers)
                if (spots := _of_image(layer, tissue, radius, count, derive_seed(seed, "output", image)))
            ]
            if found:
                return found
    return []


def _of_image(layer: TolerancedLayer, tissue: Tissue, radius: float, count: int, seed: int) -> Spots | None:
    whole, frame = layer.frame.pixels is None, layer.frame.pixels or 0
    margin, size = frame + reach_of(radius) - math.ceil(radius), layer.frame.size
    rows, columns = (
        slice(max(part.start, margin), min(part.stop, length - margin))
        for part, length in zip(layer.frame.interior, size, strict=True)
    )
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return None
    part = layer.x[..., rows, columns]
    centres = places_for(part, tissue, (radius,), 1 if whole else count, seed=seed).get(radius)
    if centres is None:
        return None
    centres, n = centres + torch.tensor([rows.start, columns.start]), len(centres)
    spots = Spots(
        layer.split.denoiser,
        layer.f_x.expand(n, -1, -1, -1),
        centres,
        layer.covariance.cropped(layer.covariance.deviation.expand(n, 1, *size)),
        frame,
        radius,
        tissue,
        whole,
    )
    return spots.near(spots.reach)[0]


def _cut(
    centre: Sequence[int], around: int, size: tuple[int, int], denoiser: LoadedDenoiser
) -> tuple[slice, slice]:
    """Return the rows and columns that hold so many pixels around a centre, or end where the image does.

    They begin where the network's own grids do.
    """
    multiple = denoiser.size_multiple
    step = math.lcm(STEP, multiple)
    side = step * math.ceil((2 * around + multiple) / step)
    cuts = []
    for place, length in zip(centre, size, strict=True):
        start = max(0, min(place - around, length - side)) // multiple * multiple
        cuts.append(slice(start, min(start + side, length)))
    return cuts[0], cuts[1]
