"""Low-pass changes of a crop as coordinates: what they are in the image, in every window of z, and as noise, as quadratic forms."""

__all__ = ["LowPass", "harmonics"]

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from invkit.fiber.linearise import Linearisation
from invkit.tolerance.layer import Crops, TolerancedLayer
from invkit.tolerance.windows import starts

PERIOD = 64  # pixels, at most, of the lowest frequency but 0
AT_ONCE = 8  # changes
LARGEST = 2**26  # numbers that z of all changes may hold; beyond it the period is shorter


@dataclass(frozen=True)
class LowPass:
    """Changes d = sum of c_i b_i of a crop, b_i harmonics from the lowest frequency to the highest.

    Args:
        harmonics: b, `(n, 1, h, w)`, HU.
        frequencies: of each, cycles per pixel, `(n,)`.
        area: c^T area c is the mean square of d within the frame, HU^2, `(n, n)`.
        windows: likewise the mean square of J d in every window of z, in units of S, `(K, n, n)`.
        rarity: likewise d^T C^-1 d over what it is on average for noise, were it low-pass as d is.
    """

    harmonics: Tensor
    frequencies: Tensor
    area: Tensor
    windows: Tensor
    rarity: Tensor

    @classmethod
    def of(cls, layer: TolerancedLayer, crop: Crops, highest: float) -> "LowPass":
        """Return the changes of a crop up to a frequency.

        Args:
            layer: with its frame.
            crop: one image, with S.
            highest: cycles per pixel.
        """
        x, unit = crop.images, crop.windows.unit.s
        rows, columns = x.shape[-2:]
        numbers = sum(part[0].numel() for part in unit)
        period = PERIOD
        while True:
            waves, frequencies = harmonics((rows, columns), period, highest)
            if len(waves) * numbers <= LARGEST or period <= PERIOD // 4:
                break
            period -= PERIOD // 8
        waves = waves.to(x.dtype).to(x.device)
        seen = _seen(layer, x, waves)
        windows = [
            _grams(part / s, side) for part, s, side in zip(seen, unit, crop.windows.sides, strict=True)
        ]
        frame = layer.frame.pixels or 0
        inside = waves[..., frame : rows - frame, frame : columns - frame].flatten(1)
        white = crop.covariance.whitened(waves).flatten(1)
        rarity = white @ white.T
        return cls(
            waves,
            frequencies,
            (inside @ inside.T / inside.shape[1]).cpu(),
            torch.cat(windows).cpu(),
            (rarity * _share(frequencies, period, (rows, columns))).cpu(),
        )

    def below(self, highest: float) -> "LowPass":
        """Return only the changes up to a frequency, cycles per pixel."""
        n = int((self.frequencies <= highest).sum())
        return LowPass(
            self.harmonics[:n],
            self.frequencies[:n],
            self.area[:n, :n],
            self.windows[:, :n, :n],
            self.rarity[:n, :n] * len(self.harmonics) / n,
        )

    def image(self, coordinates: Tensor) -> Tensor:
        """Return d, `(N, 1, h, w)`, HU, for c `(N, n)`."""
        return torch.einsum("sn,nchw->schw", coordinates.to(self.harmonics), self.harmonics)


def harmonics(size: tuple[int, int], period: int, highest: float) -> tuple[Tensor, Tensor]:
    """Return cosines and sines up to a frequency, of mean square 1, `(n, 1, h, w)`, float64, and their frequencies, `(n,)`.

    They are those of a period of so many pixels, or of the image where that is smaller, so their number does not grow with it.

    Args:
        size: of the image, `(h, w)`.
        period: pixels.
        highest: cycles per pixel.
    """
    row, column = (torch.arange(side, dtype=torch.float64) for side in size)
    tall, wide = (min(period, side) for side in size)
    found: list[tuple[float, Tensor]] = []
    for vertical in range(-(tall // 2), tall // 2 + 1):
        for horizontal in range(wide // 2 + 1):
            v, h = vertical / tall, horizontal / wide
            # A wave and its mirror image are the same.
            if math.hypot(v, h) > highest or (horizontal == 0 and vertical < 0):
                continue
            phase = 2 * math.pi * (v * row[:, None] + h * column[None, :])
            waves = (phase.cos(), phase.sin()) if (vertical, horizontal) != (0, 0) else (phase.cos(),)
            found += [(math.hypot(v, h), wave / wave.square().mean().sqrt()) for wave in waves]
    found.sort(key=lambda one: one[0])
    return torch.stack([wave for _, wave in found])[:, None], torch.tensor([radius for radius, _ in found])


def _share(frequencies: Tensor, period: int, size: tuple[int, int]) -> float:
    """Return 1 over the mean of n^T C^-1 n for noise that has only such frequencies: how many there are in the whole crop."""
    tall, wide = (min(period, side) for side in size)
    return tall * wide / (len(frequencies) * size[0] * size[1])


def _seen(layer: TolerancedLayer, x: Tensor, waves: Tensor) -> tuple[Tensor, ...]:
    """Return J b of every wave, in the shapes of z."""
    at = Linearisation(layer.split.phi_grad, x.expand(AT_ONCE, -1, -1, -1), layer.tangent)
    found: list[tuple[Tensor, ...]] = []
    for some in waves.split(AT_ONCE):
        # Always as many, for another number would be traced anew.
        filled = torch.cat([some, torch.zeros_like(waves[: AT_ONCE - len(some)])])
        found.append(tuple(part[: len(some)] for part in at.forward(filled)))
    return tuple(torch.cat(parts) for parts in zip(*found, strict=True))


def _grams(scaled: Tensor, side: int | None) -> Tensor:
    """Return mean products in every window of n differences `(n, ...)`, `(K, n, n)`."""
    if side is None:
        rows = scaled.flatten(1)
        return (rows @ rows.T / rows.shape[1])[None]
    tops, lefts = (starts(length, side) for length in scaled.shape[-2:])
    # Windows overlap, and between the places where any of them begins or ends lie cells that whole windows consist of.
    across, down = (sorted({*first, *(one + side for one in first)}) for first in (lefts, tops))
    cells = []
    for top, bottom in pairwise(down):
        strip = [scaled[..., top:bottom, left:right].flatten(1) for left, right in pairwise(across)]
        cells.append(torch.stack([cell @ cell.T for cell in strip]))
    found = []
    for top in tops:
        strip_sums = torch.stack(cells[down.index(top) : down.index(top + side)]).sum(0)
        found += [strip_sums[across.index(left) : across.index(left + side)].sum(0) for left in lefts]
    return torch.stack(found) / (scaled.shape[1] * side**2)
