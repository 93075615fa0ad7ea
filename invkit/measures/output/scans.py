"""Scans of places in an image: their noise, what f leaves of it, and what discs change, all from the same noise."""

__all__ = ["CONTRASTS", "GROUP", "Scanned", "contrast_for", "pixels_of"]

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from invkit.measures.output.observer import Observed, best_possible, laguerre_gauss
from invkit.measures.output.spots import Spots, reach_of
from invkit.measures.output.ttf import Edges, edge_profile

CONTRASTS = {"ttf_low": 30.0, "ttf_high": 300.0}  # HU, of the disc whose edge is looked at
EDGE_SCANS = 2  # of each place
GROUP = 3  # scans, the first of which is seen with discs, too
PRIME = 2.0  # d' of the image, at which the contrast of each disc is chosen


class Scanned:
    """All that is measured on scans of one image's places.

    Args:
        spots: the places.
        contrasts: of discs, HU, by radius.
        groups: of `GROUP` scans, of each place.
        seed: of their noise.

    Attributes:
        noise, left: noise and f of scans within the frame, `(N, P, h, w)`, HU.
        edges: by name of the contrast.
        observed: channels of the image and of the output, by radius.
    """

    def __init__(self, spots: Spots, contrasts: Mapping[float, float], groups: int, seed: int) -> None:
        frame, (rows, columns) = spots.frame, spots.images.shape[-2:]
        inside = (..., slice(frame, rows - frame), slice(frame, columns - frame))
        edges = _EdgeSums(spots)
        discs = {radius: _Discs(spots, radius, contrast) for radius, contrast in contrasts.items()}
        noise, left = [], []
        for number, one in enumerate(spots.noise(GROUP * groups, seed)):
            after = spots.output(spots.images + one)
            noise.append(one[inside][:, 0].cpu())
            left.append(after[inside][:, 0].cpu())
            for each in discs.values():
                each.see(one, after, paired=number % GROUP == 0)
            if number < EDGE_SCANS:
                edges.see(spots.images + one, after)
        self.noise, self.left = torch.stack(noise), torch.stack(left)
        self.edges = edges.profiles()
        self.observed = {
            "image": {radius: one.image for radius, one in discs.items()},
            "output": {radius: one.output for radius, one in discs.items()},
        }


class _Discs:
    """Channels for discs of one size at places of an image, scan by scan."""

    def __init__(self, spots: Spots, radius: float, contrast: float) -> None:
        self._near, self._cuts = spots.near(reach_of(radius))
        self._signal = contrast * self._near.disc(radius)
        self._channels = _channels(self._near, radius)
        self._seen: dict[str, list[Tensor]] = defaultdict(list)

    def see(self, noise: Tensor, after: Tensor, *, paired: bool) -> None:
        """Take in a scan: its noise, and f of it, `(P, 1, h, w)`; `paired` looks at it with the discs, too."""
        noise, after = (self._cropped(images) for images in (noise, after))
        self._take("absent", noise, after)
        if paired:
            scan = noise + self._signal
            self._take("present", scan, self._near.output(self._near.images + scan))

    @property
    def image(self) -> Observed:
        """What was seen of the image; its background, which is known, is left out."""
        return self._observed(0)

    @property
    def output(self) -> Observed:
        """What was seen of f."""
        return self._observed(1)

    def _take(self, name: str, *images: Tensor) -> None:
        seen = [torch.einsum("pchw,phw->pc", self._channels, one[:, 0].cpu().double()) for one in images]
        self._seen[name].append(torch.stack(seen))

    def _observed(self, where: int) -> Observed:
        absent, present = (torch.stack(self._seen[name], dim=2)[where] for name in ("absent", "present"))
        return Observed(absent.unflatten(1, (-1, GROUP)), present)

    def _cropped(self, images: Tensor) -> Tensor:
        return torch.stack([image[..., r, c] for image, (r, c) in zip(images, self._cuts, strict=True)])


class _EdgeSums:
    """Differences that a disc makes, of each contrast, summed over scans."""

    def __init__(self, spots: Spots) -> None:
        self._spots, self._radius = spots, (spots.reach + 1) / 2
        self._disc = spots.disc(self._radius)
        self._change = {name: torch.zeros_like(spots.images) for name in CONTRASTS}
        self._count = 0

    def see(self, scan: Tensor, after: Tensor) -> None:
        """Take in a scan and f of it, `(P, 1, h, w)`."""
        for name, contrast in CONTRASTS.items():
            self._change[name] += self._spots.output(scan + contrast * self._disc) - after
        self._count += 1

    def profiles(self) -> dict[str, Edges]:
        """Return the profiles of mean differences, by name of the contrast."""

        def each(images: Tensor) -> np.ndarray:
            pairs = zip(images[:, 0], self._spots.centres.tolist(), strict=True)
            return np.stack([edge_profile(image, centre, 2 * self._radius) for image, centre in pairs])

        return {
            name: Edges(
                each(contrast * self._disc), each(self._change[name] / self._count), self._radius, contrast
            )
            for name, contrast in CONTRASTS.items()
        }


def _channels(spots: Spots, radius: float) -> Tensor:
    """Return channels for a disc at each place, `(P, 5, h, w)`, float64; they are twice as wide as the disc and a pixel."""
    size = (spots.images.shape[-2], spots.images.shape[-1])
    return torch.stack(
        [
            laguerre_gauss(size, (row, column), 2 * radius + 1, reach_of(radius))
            for row, column in spots.centres.tolist()
        ]
    )


def contrast_for(spots: Sequence[Spots], radius: float) -> float:
    """Return the contrast at which the best observer with these channels has d' = 2 in the image, root mean square over places."""
    squares = []
    for one in spots:
        near, _ = one.near(reach_of(radius))
        signals, channels = near.disc(radius), _channels(near, radius)
        for place, signal in enumerate(signals):
            covariance = near.covariance.cropped(near.covariance.deviation[place : place + 1])
            squares.append(best_possible(channels[place], signal, covariance) ** 2)
    return PRIME / math.sqrt(sum(squares) / len(squares))


def pixels_of(spots: Sequence[Spots], radii: Sequence[float]) -> int:
    """Return for how many pixels f is computed in one group of scans."""
    alone = sum(one.images.numel() for one in spots)
    return GROUP * alone + sum(
        one.near(reach_of(radius))[0].images.numel() for one in spots for radius in radii
    )
